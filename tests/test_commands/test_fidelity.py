"""The command on a trained tiny model."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from mmtlalign.apis import get_model
from mmtlalign.commands.fidelity import class_labels, name_checkpoints
from mmtlalign.errors import UserError
from mmtlalign.evaluation.fidelity import Fidelity, draw_pairs, join, summarize

TOOL = 'analysis_tools/fidelity.py'


@pytest.mark.slow
def test_figures_and_picture(here, trained, tmp_path, capsys):
    options = '--labels one two --shares area contribution --mixes 20 --seed 5 --out found.json'
    here(TOOL, 'tiny.py', trained, trained, *options.split())
    found = json.loads((tmp_path / 'found.json').read_text())
    assert (tmp_path / 'found.png').read_bytes().startswith(b'\x89PNG')
    one = found['checkpoints']['one']
    assert one == found['checkpoints']['two']

    cfg = Config.fromfile('tiny.py')
    init_default_scope('mmpretrain')
    model = get_model(cfg, trained)
    images = DATASETS.build(cfg.test_dataloader.dataset)
    labels = images.get_gt_labels().tolist()
    pairs = draw_pairs(labels, (4, 4), 20, torch.Generator().manual_seed(5))
    parts = list(Fidelity(model, ['area', 'contribution']).measure(images, pairs))
    expected = json.loads(json.dumps(summarize(join(parts), seed=5)))
    torch.testing.assert_close(one, expected, rtol=1e-7, atol=1e-5, equal_nan=True)
    assert (found['pairs'], found['mixes']) == (len(pairs.images), pairs.mixes)
    value, low, high = one['contribution']['answer']['correlation'][-1]
    table = capsys.readouterr().out.splitlines()
    assert f'{value:+.2f} ({low:+.2f} to {high:+.2f})' in table[3]


def test_images_of_several_labels_are_refused():
    size = dict(num_images=6, num_objects=2, object_size=8, image_size=16)
    images = DATASETS.build(dict(type='mmtlalign.PlantedDigits', split='val', pipeline=[], **size))
    with pytest.raises(UserError, match=r'test image 0 has the labels \['):
        class_labels(images)


def test_checkpoints_are_named_by_their_folders(tmp_path):
    names = ['a/epoch_1.pth', 'a/epoch_2.pth', 'b/epoch_2.pth']
    paths = [str(tmp_path / name) for name in names]
    assert name_checkpoints(paths, None) == ['a/epoch_1', 'a/epoch_2', 'b']
    assert name_checkpoints(paths, ['x', 'y', 'z']) == ['x', 'y', 'z']
