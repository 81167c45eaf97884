"""Options that people expect, each with what it has done."""

import json
import re
import tempfile

import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands import train, training_options
from mmtlalign.errors import UserError

from ..tiny import write_project
from .test_train_and_test import load, same

ONE_EPOCH = 'train_cfg.update(max_epochs=1)\n'
BFLOAT16 = dict(type='mmtlalign.BFloat16OptimWrapper')
AMP = dict(type='AmpOptimWrapper', loss_scale='dynamic')
GIVEN = dict(type='AmpOptimWrapper', loss_scale=512.0, dtype='bfloat16')
BASE = dict(base_batch_size=64)
INDUCTOR = dict(backend='inductor')
PYTORCH = dict(launcher='pytorch')


def applied(options, **entries):
    """A config with options applied."""
    cfg = Config(dict(dict(optim_wrapper={}, launcher='none'), **entries))
    training_options.apply_training_options(cfg, train.parse_args(['tiny.py', *options.split()]))
    return cfg


def logged(folder):
    (log,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    'device, options, key, given, written',
    [
        ('cpu', '--amp', 'optim_wrapper', dict(clip_grad={}), dict(BFLOAT16, clip_grad={})),
        ('cuda', '--amp', 'optim_wrapper', dict(clip_grad={}), dict(AMP, clip_grad={})),
        ('cuda', '--amp', 'optim_wrapper', dict(type='OptimWrapper'), AMP),
        ('cuda', '--amp', 'optim_wrapper', dict(type='AmpOptimWrapper'), AMP),
        ('cpu', '--amp-dtype bf16', 'optim_wrapper', GIVEN, BFLOAT16),
        ('npu', '--amp-dtype bf16', 'optim_wrapper', GIVEN, BFLOAT16),
        ('npu', '--amp-dtype fp16', 'optim_wrapper', GIVEN, dict(GIVEN, dtype='float16')),
        ('npu', '--fsdp --amp', 'optim_wrapper', {}, BFLOAT16),
        ('cpu', '--fsdp', 'strategy', None, dict(type='mmtlalign.FSDP2Strategy', sync_bn=None)),
        ('cpu', '--fsdp', 'runner_type', None, 'mmtlalign.ShardedRunner'),
        ('cpu', '', 'runner_type', 'FlexibleRunner', 'mmtlalign.ShardedRunner'),
        ('cpu', '--auto-scale-lr', 'auto_scale_lr', BASE, dict(BASE, enable=True)),
        ('cpu', '--compile', 'compile', True, dict(mode='default')),
        ('cpu', '--compile max-autotune', 'compile', INDUCTOR, dict(INDUCTOR, mode='max-autotune')),
    ],
)
def test_what_is_written_into_the_config(monkeypatch, device, options, key, given, written):
    monkeypatch.setattr(training_options, 'get_device', lambda: device)
    launcher = 'pytorch' if '--fsdp' in options else 'none'
    assert applied(options, **{key: given, 'launcher': launcher})[key] == written


@pytest.mark.parametrize(
    'device, options, entries, message',
    [
        ('mps', '--amp', {}, "not on 'mps'; leave it out"),
        ('cuda', '--amp', dict(optim_wrapper=dict(type='MyWrapper')), "not 'MyWrapper'"),
        ('cpu', '--amp-dtype fp16', {}, 'fp16 does not work with a CPU; give --amp-dtype bf16'),
        ('cpu', '--amp', dict(model=dict(roi_head={})), 'operators on regions .*: leave it out'),
        ('cpu', '--auto-scale-lr', {}, '--auto-scale-lr needs auto_scale_lr.base_batch_size'),
        ('cpu', '--compile', {}, 'needs a C'),
        ('cpu', '--peak-tflops inf', {}, '--peak-tflops inf must be greater than 0, and finite'),
        ('cpu', '--peak-tflops nan', {}, '--peak-tflops nan must be greater than 0'),
        ('cpu', '--fsdp', {}, '--launcher is none; start them with tools/dist_train.sh'),
        ('cpu', '--fsdp --compile', PYTORCH, '--fsdp does not go with --compile'),
        ('cpu', '--fsdp', dict(PYTORCH, compile=True), "no use for 'compile'"),
        ('cpu', '', dict(strategy=dict(type='FSDPStrategy')), 'FSDPStrategy. clips .*give --fsdp'),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch, device, options, entries, message):
    monkeypatch.setattr(training_options, 'get_device', lambda: device)
    monkeypatch.setattr(training_options.shutil, 'which', lambda name: None)
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(UserError, match=message):
        applied(options, **entries)


@pytest.mark.slow
def test_a_seed_draws_everything_again_and_is_kept(here, ends_with, tmp_path):
    """Mixing too: without our hook, its generator follows the seed alone."""
    write_project(tmp_path, 'custom_hooks = []\nrandomness = dict()\n' + ONE_EPOCH)
    for work_dir, seed in (('a', 5), ('b', 5), ('c', 6)):
        here('train.py', 'tiny.py', '--seed', seed, '--work-dir', work_dir, '--deterministic')
        assert torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
    a, b, c = (load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in 'abc')
    assert same(a, b) and not same(a, c)
    lams = [[row.get('lam') for row in logged(tmp_path / name)] for name in 'abc']
    assert lams[0] == lams[1] != lams[2]
    go_on = ('train.py', 'tiny.py', '--resume', '--extend', 2, '--work-dir', 'a')
    assert 'randomness.seed was 5 and is 6' in ends_with(*go_on, '--seed', 6)
    here(*go_on)
    assert load(tmp_path / 'a/epoch_2.pth')['meta']['seed'] == 5


@pytest.mark.slow
def test_what_is_extended_need_not_have_begun(here, tmp_path):
    write_project(tmp_path, ONE_EPOCH)
    here('train.py', 'tiny.py', '--resume', '--extend', 2)
    assert (tmp_path / 'work_dirs/tiny/epoch_2.pth').exists()


def test_a_dry_run_leaves_nothing_behind(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    (tmp_path / 'work_dirs/tiny').mkdir(parents=True)
    (tmp_path / 'work_dirs/tiny/epoch_1.pth').touch()  # of another run
    before = sorted(map(str, tmp_path.rglob('*')))
    here('train.py', 'tiny.py', '--dry-run')
    said = capsys.readouterr().out
    assert 'Epoch(train) [1][2/3]' in said and '[3/3]' not in said
    told = re.search(
        r'dry run: peak memory (\d+) MiB a process; ([\d.]+) s a step, so 9 steps take '
        r'([\d.]+) h without validation',
        said,
    )
    memory, seconds, hours = map(float, told.groups())
    assert 100 < memory < 10000 and hours == pytest.approx(9 * seconds / 3600, abs=0.01)
    assert sorted(map(str, tmp_path.rglob('*'))) == before


@pytest.mark.slow
def test_a_trace_and_rates_are_left_in_the_work_dir(trained, here, tmp_path):
    """Resumed, over the end of an epoch."""
    options = ('--extend', 5, '--profile', 4, '--peak-tflops', 1e-3)
    here('train.py', 'tiny.py', '--resume', trained, *options)
    (trace,) = tmp_path.glob('work_dirs/tiny/*/trace_rank0.json')
    events = json.loads(trace.read_text())['traceEvents']
    assert {f'ProfilerStep#{i}' for i in range(4)} <= {event['name'] for event in events}
    rows = [row for row in logged(tmp_path / 'work_dirs/tiny') if 'loss' in row]
    assert len(rows) == 6
    for row in rows:
        assert row['images_per_second'] > 0 and row['mfu'] > 0 and row['memory'] > 100


RESNET = """
model = dict(
    type='ImageClassifier', backbone=dict(type='ResNet', depth=18, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32,
              loss=dict(type='CrossEntropyLoss')))
"""


@pytest.mark.slow
def test_channels_last_where_the_model_gains(here, ends_with, tmp_path):
    said = ends_with('train.py', 'tiny.py', '--channels-last', '--profile', 10)
    assert '--channels-last: this model has no convolutions that' in said
    said = ends_with('train.py', 'tiny.py', '--profile', 10)
    assert '--profile 10: this training has 9 steps left' in said
    write_project(tmp_path, RESNET + ONE_EPOCH)
    here('train.py', 'tiny.py', '--channels-last', '--overwrite')
    weight = load(tmp_path / 'work_dirs/tiny/epoch_1.pth')['state_dict']['backbone.conv1.weight']
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_compiled_step_trains_the_same(whole, here, tmp_path):
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'compile.backend=aot_eager')
    here('train.py', 'tiny.py', '--compile', *options)
    compiled, plain = (
        [row['loss'] for row in logged(folder / 'work_dirs/tiny') if 'loss' in row]
        for folder in (tmp_path, whole[0])
    )
    assert compiled == pytest.approx(plain[:3], abs=1e-4)
