"""The command on a trained tiny model."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from mmtlalign.apis import get_model
from mmtlalign.commands.fidelity import name_checkpoints
from mmtlalign.evaluation.fidelity import Fidelity, draw_pairs, join, summarize

from ..tiny import run_tool

TOOL = 'analysis_tools/fidelity.py'


def assert_close(found, expected):
    """Nested figures agree; other processes round otherwise."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_figures_and_picture(whole, tmp_path, monkeypatch):
    folder, _ = whole
    checkpoint = folder / 'work_dirs/tiny/epoch_3.pth'
    options = '--labels one two --shares area contribution --mixes 20 --seed 5'.split()
    options += ['--out', tmp_path / 'found.json']
    process = run_tool(TOOL, 'tiny.py', checkpoint, checkpoint, *options, folder=folder)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / 'found.json').read_text())
    assert (tmp_path / 'found.png').read_bytes().startswith(b'\x89PNG')
    one = found['checkpoints']['one']
    assert one == found['checkpoints']['two']

    monkeypatch.chdir(folder)
    cfg = Config.fromfile('tiny.py')
    init_default_scope('mmpretrain')
    model = get_model(cfg, checkpoint)
    images = DATASETS.build(cfg.test_dataloader.dataset)
    pairs = draw_pairs(
        images.get_gt_labels().tolist(), (4, 4), 20, torch.Generator().manual_seed(5)
    )
    expected = summarize(
        join(list(Fidelity(model, ['area', 'contribution']).measure(images, pairs))), seed=5
    )
    assert_close(one, json.loads(json.dumps(expected)))
    assert (found['pairs'], found['mixes']) == (len(pairs.images), pairs.mixes)
    value, low, high = one['contribution']['answer']['correlation'][-1]
    assert f'{value:+.2f} ({low:+.2f} to {high:+.2f})' in process.stdout.splitlines()[3]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['tiny.py', 'no.pth'], "checkpoint 'no.pth'"),
        (['tiny.py', 'tiny.py', '--out', 'tiny.py/a.json'], "folder 'tiny.py' cannot be "),
        (
            ['tiny.py', 'tiny.py', 'tiny.py', '--labels', 'a', 'a'],
            "label 'a' stands for 2 checkpoints; tell them apart with --labels",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(ends_with, arguments, message):
    ended = ends_with(TOOL, *arguments)
    assert message in ended and len(ended.splitlines()) == 1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--out', 'a.txt'], "--out 'a.txt' must end in .json"),
        (['--mixes', '1'], '--mixes 1 must be at least 4'),
        (['--labels', 'a', 'b'], '--labels names 2 of 1 checkpoints'),
    ],
)
def test_arguments_that_do_not_fit(ends_with, capsys, arguments, message):
    assert ends_with(TOOL, 'tiny.py', 'tiny.py', *arguments) == 2
    assert message in capsys.readouterr().err


def test_unknown_shares_and_labels_are_refused(ends_with, whole):
    checkpoint = whole[0] / 'work_dirs/tiny/epoch_3.pth'
    ended = ends_with(TOOL, 'tiny.py', checkpoint, '--shares', 'nonsense')
    assert "propagation 'nonsense' is unknown" in ended


def test_images_with_several_labels_are_refused(ends_with, whole, tmp_path):
    (tmp_path / 'several.py').write_text("""
_base_ = 'tiny.py'
images = dict(
    _delete_=True, type='mmtlalign.PlantedDigits', split='val', num_images=6,
    num_objects=2, object_size=8, image_size=16,
    pipeline=[dict(type='PackInputs')])
model = dict(head=dict(num_classes=10))
data_preprocessor = dict(num_classes=10)
train_dataloader = dict(dataset=images)
test_dataloader = dict(dataset=images)
""")
    ended = ends_with(TOOL, 'several.py', whole[0] / 'work_dirs/tiny/epoch_3.pth')
    assert 'test image 0 has the labels [' in ended


def test_checkpoints_are_named_by_their_folders(tmp_path):
    names = ['a/epoch_1.pth', 'a/epoch_2.pth', 'b/epoch_2.pth']
    paths = [str(tmp_path / name) for name in names]
    assert name_checkpoints(paths, None) == ['a/epoch_1', 'a/epoch_2', 'b']
    assert name_checkpoints(paths, ['x', 'y', 'z']) == ['x', 'y', 'z']
