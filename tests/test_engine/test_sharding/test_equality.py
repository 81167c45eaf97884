"""Sharded over two processes, a training is what it is with DDP."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mmtlalign.commands import publish
from tests.conftest import needs_operators
from tests.test_commands.test_dense_tasks import DETECTOR, SEGMENTER, data  # noqa: F401
from tests.test_commands.test_train_and_test import load, same
from tests.tiny import ROOT, run, write_project
from tests.two_processes import free_port, run_twice

# Averages, clipping and 20 steps. AdamW divides by the size of gradients, and
# some are zero but for rounding: eps keeps those from being steps.
WHOLE = """
train_cfg.update(max_epochs=10, val_interval=5)
optim_wrapper.update(clip_grad=dict(max_norm=.5))
optim_wrapper['optimizer'].update(eps=1e-4)
custom_hooks.append(dict(type='EMAHook', momentum=.1))
default_hooks.update(checkpoint=dict(type='CheckpointHook', interval=5))
"""


def train(folder, config, work_dir, *options, report=False):
    options += ('--launcher', 'pytorch', '--work-dir', work_dir, *['--no-report'] * (not report))
    done = run_twice(folder, ROOT / 'tools/train.py', config, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def logged(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def assert_equal_logs(folder, names, steps=20):
    plain, sharded = logged(folder / 'ddp'), logged(folder / 'fsdp')
    assert len(plain) == len(sharded)
    for name in names:
        values = [[row[name] for row in rows if name in row] for rows in (plain, sharded)]
        assert len(values[0]) == steps
        assert values[1] == pytest.approx(values[0], rel=0, abs=1e-6), name


def assert_close(a, b):
    """Whether weights, or what an optimizer holds, are equal up to rounding."""
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_close(value, b[key])
        else:
            torch.testing.assert_close(b[key], value, rtol=0, atol=1e-6, msg=str(key))


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """A folder with the same training done in both ways."""
    folder = tmp_path_factory.mktemp('both')
    write_project(folder, WHOLE)
    train(folder, 'tiny.py', 'ddp')
    out = train(folder, 'tiny.py', 'fsdp', '--fsdp', report=True)
    assert 'Sharded over 2 processes: 2 transformer layers' in out and 'report: ' in out
    assert 'Epoch(train)' in out and 'Config:' not in out and 'System environment' not in out
    return folder


@pytest.mark.slow
def test_classification(both):
    assert_equal_logs(both, ('loss', 'aligned_share', 'token_fluctuation', 'grad_norm'))
    plain, sharded = (load(both / name / 'epoch_10.pth') for name in ('ddp', 'fsdp'))
    for part in ('state_dict', 'ema_state_dict'):
        assert_close(plain[part], sharded[part])
    assert_close(plain['optimizer']['state'], sharded['optimizer']['state'])
    assert plain['meta'].keys() == sharded['meta'].keys()
    # clipped, or the comparison says nothing of it
    assert max(row['grad_norm'] for row in logged(both / 'fsdp') if 'grad_norm' in row) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    'begun, options', [('fsdp', ['--fsdp']), ('ddp', ['--fsdp']), ('fsdp', [])]
)
def test_each_kind_resumes_the_other(both, tmp_path, begun, options):
    write_project(tmp_path, WHOLE)
    (tmp_path / 'work').mkdir()
    shutil.copy(both / begun / 'epoch_5.pth', tmp_path / 'work')
    (tmp_path / 'work/last_checkpoint').write_text('epoch_5.pth')
    out = train(tmp_path, 'tiny.py', 'work', '--resume', *options)
    assert 'resumed epoch: 5, iter: 10' in out
    straight, resumed = load(both / 'fsdp/epoch_10.pth'), load(tmp_path / 'work/epoch_10.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert_close(straight[part], resumed[part])
        if begun == 'fsdp' and options:
            assert same(straight[part], resumed[part])
    assert_close(straight['optimizer']['state'], resumed['optimizer']['state'])


@pytest.mark.slow
def test_it_is_published_as_any_other(both, tmp_path):
    publish.main([str(both / 'fsdp/epoch_10.pth'), str(tmp_path), '--name', 'tiny'])
    (published,) = tmp_path.glob('*.safetensors')
    assert same(load_file(published), dict(load(both / 'fsdp/epoch_10.pth')['state_dict']))


@pytest.mark.slow
def test_weights_are_proven_in_mixed_precision_and_a_signal_is_heeded(both, tmp_path):
    """From pretrained weights; SIGTERM within an epoch, and on from there."""
    (tmp_path / 'sender.py').write_text(
        'import os\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class Sender(Hook):\n'
        '    def before_train_iter(self, runner, *args, **kwargs):\n'
        '        if runner.iter == 8 and runner.rank == 0 and not runner._resume:\n'
        '            os.kill(os.getppid(), 15)\n'  # torchrun, which hands it on
    )
    checkpoint = both / 'fsdp/epoch_10.pth'
    write_project(
        tmp_path,
        f"""
train_cfg.update(max_epochs=2)
train_dataloader.update(batch_size=1)
model['backbone'].update(init_cfg=dict(
    type='Pretrained', checkpoint={str(checkpoint)!r}, prefix='backbone.'))
custom_imports = dict(imports=['sender'])
custom_hooks.append(dict(type='mmengine.Sender'))
""",
    )
    stopped = run(
        [ROOT / 'tools/dist_train.sh', 'tiny.py', 2, '--fsdp', '--amp'],
        tmp_path,
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    assert stopped.returncode == 1  # torchrun's, of whatever its processes say
    assert 'Weights of backbone: verified, ' in stopped.stdout
    assert 'stopped by SIGTERM after iteration 10' in stopped.stderr
    work = tmp_path / 'work_dirs/tiny'
    meta = load(work / 'interrupted_epoch_1_iter_10.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 10)
    out = train(tmp_path, 'tiny.py', work, '--fsdp', '--amp', '--resume')
    assert 'Epoch 2 goes on after its first 4 batches' in out
    assert load(work / 'epoch_2.pth')['meta']['iter'] == 12


VIT = """
model['backbone'] = dict(
    type='mmpretrain.VisionTransformer', out_type='featmap', img_size=32,
    patch_size=8, arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32))
"""
DENSE = """
train_cfg.update(max_iters=20, val_interval=20)
optim_wrapper.update(clip_grad=dict(max_norm=1.))
default_hooks['checkpoint'].update(interval=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, names',
    [(DETECTOR, ('loss', 'loss_rpn_cls', 'grad_norm')), (SEGMENTER + VIT, ('loss', 'grad_norm'))],
    ids=['detector', 'segmenter'],
)
def test_dense_tasks(data, config, names):  # noqa: F811
    needs_operators()
    (data / 'dense.py').write_text(config + DENSE)
    train(data, 'dense.py', 'ddp')
    train(data, 'dense.py', 'fsdp', '--fsdp')
    assert_equal_logs(data, names)
    plain, sharded = (load(data / name / 'iter_20.pth') for name in ('ddp', 'fsdp'))
    assert_close(plain['state_dict'], sharded['state_dict'])
