"""The commands as a user runs them."""

import json
import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands import train
from mmtlalign.commands.start_up_noise import KNOWN_NOISE
from mmtlalign.errors import UserError

from ..tiny import write_project
from .happens import write_disturbed


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
    _, said = whole
    assert re.search(r'Epoch\(train\) \[2\]\[1/3\].* eta: \d:\d\d:\d\d', said)
    assert re.search(r'Epoch\(val\) .* eta: ', said)
    assert 'token_fluctuation: ' in said
    assert re.search(r'Threads: \d+ \(OMP_NUM_THREADS=1\)', said)
    assert 'Weights: random (no init_cfg' in said
    for message in KNOWN_NOISE:
        assert message.split('. ')[0] not in said


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


def test_a_checkpoint_of_another_model_is_not_resumed(trained, ends_with):
    options = '--cfg-options model.head.in_channels=32 --accept model --extend 4'.split()
    said = ends_with('train.py', 'tiny.py', '--resume', trained, *options)
    assert "does not fit the config's TLAlignClassifier: size mismatch for head.layers" in said


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


@pytest.mark.slow
def test_a_training_that_diverges_leaves_its_last_sound_checkpoint(
    here, ends_with, tmp_path, capsys
):
    """NaN in the second of three epochs, one checkpoint kept."""
    keep_one = (
        "default_hooks['checkpoint'] = dict(type='CheckpointHook', max_keep_ckpts=1, interval=1)"
    )
    poison = "batch['inputs'] = [image * torch.nan for image in batch['inputs']]"
    write_disturbed(tmp_path, 'iter_3', poison, keep_one)
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith(
        'train.py: training has diverged: a loss is not finite, by iteration 4 (epoch 2)'
    )
    sound = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    assert re.search("sound checkpoint is '.*work_dirs/tiny/epoch_1.pth'", said)
    assert [*sound.parent.glob('*.pth')] == [sound]
    assert all(value.isfinite().all() for value in load(sound)['state_dict'].values())

    write_project(tmp_path, keep_one)
    capsys.readouterr()
    here('train.py', 'tiny.py', '--resume')
    assert 'resumed epoch: 1, iter: 3' in capsys.readouterr().out
    assert [path.name for path in sound.parent.glob('*.pth')] == ['epoch_3.pth']
