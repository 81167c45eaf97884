"""The command on a trained tiny model."""

import json
import re
from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

from mmtlalign.apis import get_model
from mmtlalign.commands.fidelity import class_labels, name_checkpoints
from mmtlalign.errors import UserError
from mmtlalign.evaluation.fidelity import Fidelity, draw_pairs, join, summarize

from ..conftest import ROOT

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


@pytest.mark.slow
def test_objects_of_scenes(here, tmp_path, capsys, monkeypatch):
    """The page's commands, word for word, on made scenes."""
    pytest.importorskip('pycocotools', reason='pycocotools is not installed')
    section = (ROOT / 'docs/faithfulness.md').read_text().split('## True? Objects of CamVid')[1]
    python, bash = re.findall(r'```(?:python|bash)\n(.*?)```', section, re.DOTALL)[:2]
    for name in ('configs', 'zoo', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'camvid_crops.py').write_text(python)
    for split in ('train', 'val'):
        write_scenes(tmp_path / 'data/camvid', split)
    commands = bash.replace('\\\n', ' ').splitlines()
    loop, convert, _, *rest = (line.split('#')[0].split() for line in commands)
    short = 'train_cfg.max_epochs=2 train_cfg.val_interval=1 train_dataloader.num_workers=0'
    monkeypatch.syspath_prepend(ROOT / 'tools/dataset_tools')
    for split in loop[3:5]:
        split = split.rstrip(';')
        name, *options = (word.replace('$split', split) for word in convert[1:])
        here(name.removeprefix('tools/'), *options)
    for line in rest:
        extra = dict(train=short, fidelity='--mixes 8').get(line[1], '').split()
        line = [word.replace('epoch_20', 'epoch_2') for word in line]
        import_module(f'mmtlalign.commands.{line[1]}').main([*line[2:], *extra])
    found = json.loads((tmp_path / 'fidelity.json').read_text())
    (shares,) = found['checkpoints'].values()
    # an object fills (2 / 3) squared of its square: what is seen of it is not the area
    assert shares['area']['truth']['distance'][0][0] > 0.05
    assert 'truth: correlation' in capsys.readouterr().out


def write_scenes(folder, split):
    """Four scenes, each with an object of every class, of a brightness of its own."""
    for kind in ('images', 'annotations'):
        (folder / kind / split).mkdir(parents=True)
    for number in range(4):
        labels = np.zeros((70, 120), np.uint8)
        for value, left in zip((6, 8, 9, 10), range(2 + number, 120, 29)):
            labels[20:40, left : left + 20] = value
        image = (20 * labels)[..., None].repeat(3, 2)
        Image.fromarray(image).save(folder / f'images/{split}/{number}.jpg')
        Image.fromarray(labels).save(folder / f'annotations/{split}/{number}.png')


def test_checkpoints_are_named_by_their_folders(tmp_path):
    names = ['a/epoch_1.pth', 'a/epoch_2.pth', 'b/epoch_2.pth']
    paths = [str(tmp_path / name) for name in names]
    assert name_checkpoints(paths, None) == ['a/epoch_1', 'a/epoch_2', 'b']
    assert name_checkpoints(paths, ['x', 'y', 'z']) == ['x', 'y', 'z']
