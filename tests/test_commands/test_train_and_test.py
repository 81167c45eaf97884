"""The commands as a user runs them; a training killed, resumed, tested."""

import json
import pickle
import re
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands import train
from mmtlalign.commands.start_up_noise import KNOWN_NOISE
from mmtlalign.errors import UserError

from ..tiny import run_tool, write_project

KILL = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Kill(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def load(path):
    return torch.load(path, weights_only=False)


def same(a, b):
    """Whether nested containers are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_training_shows_progress_and_no_noise(whole):
    folder, said = whole
    assert re.search(r'Epoch\(train\) \[2\]\[1/3\].* eta: \d:\d\d:\d\d', said)
    assert re.search(r'Epoch\(val\) .* eta: ', said)
    assert 'token_fluctuation: ' in said
    assert re.search(r'Threads: \d+ \(OMP_NUM_THREADS=1\)', said)
    assert 'Weights: random (no init_cfg' in said
    for message in KNOWN_NOISE:
        assert message.split('. ')[0] not in said
    assert 'paramwise_options' not in said
    (log,) = folder.glob('work_dirs/tiny/*/*.log')
    assert 'paramwise_options' in log.read_text()


@pytest.mark.slow
def test_a_killed_training_resumes_bit_identical(trained, here, tmp_path, capsys):
    (tmp_path / 'kill.py').write_text(KILL)
    extra = "custom_imports = dict(imports=['kill'])\ncustom_hooks.append(dict(type='Kill'))\n"
    killed = run_tool('train.py', write_project(tmp_path, extra), folder=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    work = tmp_path / 'work_dirs/tiny'
    assert sorted(p.name for p in work.glob('*.pth')) == ['epoch_1.pth']

    write_project(tmp_path)
    here('train.py', 'tiny.py', '--resume')
    assert 'resumed epoch: 1, iter: 3' in capsys.readouterr().out
    straight, broken = load(trained), load(work / 'epoch_3.pth')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(straight[part], broken[part]), part


def test_testing_gives_the_accuracy_of_training(whole, trained, here, tmp_path, capsys):
    results = '--out all.pkl --bootstrap new/draws.json'.split()
    here('test.py', 'tiny.py', trained, *results)
    said = capsys.readouterr().out
    accuracy = re.findall(r'accuracy/top1: ([\d.]+)', said)
    assert accuracy == re.findall(r'accuracy/top1: ([\d.]+)', whole[1])[-1:]
    predictions = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    right = [p['pred_label'].item() == p['gt_label'].item() for p in predictions]
    assert float(accuracy[0]) == pytest.approx(100 * sum(right) / 12, abs=0.01)
    assert re.search(r'Epoch\(test\) \[\s*\d/3\].* eta: ', said)
    bootstrap = json.loads((tmp_path / 'new/draws.json').read_text())
    draws = np.random.default_rng(0).integers(12, size=(1000, 12))
    expected = 100 * np.array(right)[draws].mean(axis=1)
    assert bootstrap.pop('draws') == pytest.approx(expected, abs=1e-4)
    low, high = bootstrap.pop('interval')
    assert [low, high] == pytest.approx(np.percentile(expected, [2.5, 97.5]))
    figure = pytest.approx(float(accuracy[0]), abs=1e-4)
    assert bootstrap == dict(metric='accuracy/top1', num_images=12, figure=figure)
    assert f'95 % of the time between {low:.4f} and {high:.4f}' in said


def test_a_checkpoint_of_another_model_is_refused(trained, ends_with):
    options = ['--cfg-options', 'model.backbone.arch.num_layers=3']
    said = ends_with('test.py', 'tiny.py', trained, *options)
    assert re.fullmatch(
        r"test\.py: checkpoint '.*' does not fit the config's TLAlignClassifier: 12 keys missing "
        r'in the file \(first: backbone\.layers\.2\..*',
        said,
    )
    options = '--cfg-options model.head.in_channels=32 --accept model --extend 4'.split()
    said = ends_with('train.py', 'tiny.py', '--resume', trained, *options)
    assert 'size mismatch for head.layers.head.weight' in said and '\n' not in said


@pytest.mark.parametrize('named', [True, False])
def test_weights_alone_are_not_resumed(trained, ends_with, tmp_path, named):
    weights = tmp_path / 'work_dirs/tiny/weights.pth'
    weights.parent.mkdir(parents=True)
    torch.save(dict(state_dict=load(trained)['state_dict'], meta=dict(epoch=3)), weights)
    (weights.parent / 'last_checkpoint').write_text(str(weights))
    said = ends_with('train.py', 'tiny.py', '--resume', *[weights] * named)
    path = weights if named else 'work_dirs/tiny/weights.pth'
    assert said == (
        f"train.py: checkpoint '{path}' cannot be resumed: it has no iter, "
        'message_hub, optimizer; to begin a training with its weights, give '
        f'--cfg-options load_from={path} instead of --resume'
    )
    left = sorted(path.name for path in weights.parent.iterdir())
    assert left == ['.lock', 'last_checkpoint', 'weights.pth']  # no log of a run


def test_only_schedules_of_the_same_unit_must_begin_in_time():
    warm_up = dict(type='LinearLR', by_epoch=False, end=50)
    decay = dict(type='PolyLR', by_epoch=False, begin=50)
    cfg = Config(dict(param_scheduler=[warm_up, decay], train_cfg=dict(max_epochs=4)))
    train.check_schedule(cfg)
    cfg.train_cfg = dict(max_iters=50)
    with pytest.raises(UserError, match='max_iters=50 .*PolyLR begins at 50'):
        train.check_schedule(cfg)
    cfg.param_scheduler[1].end = 100
    train.check_schedule(cfg)


POISON = """
import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Poison(Hook):

    def before_train_iter(self, runner, batch_idx, data_batch):
        if os.environ.get('POISON') and runner.epoch == 1:
            data_batch['inputs'] = [
                image * torch.nan for image in data_batch['inputs']]
"""


@pytest.mark.slow
def test_a_training_that_diverges_leaves_its_last_sound_checkpoint(
    here, ends_with, tmp_path, monkeypatch, capsys
):
    """NaN from the second of three epochs on, one checkpoint kept."""
    (tmp_path / 'poison.py').write_text(POISON)
    monkeypatch.syspath_prepend(tmp_path)
    write_project(
        tmp_path,
        """
custom_imports = dict(imports=['poison'])
custom_hooks.append(dict(type='mmengine.Poison'))
default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
""",
    )
    monkeypatch.setenv('POISON', '1')
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith(
        'train.py: training has diverged: a loss is not finite, by iteration 4 (epoch 2)'
    )
    sound = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    assert re.search("sound checkpoint is '.*work_dirs/tiny/epoch_1.pth'", said)
    assert [*sound.parent.glob('*.pth')] == [sound]
    assert all(value.isfinite().all() for value in load(sound)['state_dict'].values())

    monkeypatch.delenv('POISON')
    capsys.readouterr()
    here('train.py', 'tiny.py', '--resume')
    assert 'resumed epoch: 1, iter: 3' in capsys.readouterr().out
    assert [path.name for path in sound.parent.glob('*.pth')] == ['epoch_3.pth']
