"""The command that reads data, and what train and test say of them."""

import json
from itertools import product

import cv2
import mmcv
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmtlalign.commands import check
from mmtlalign.commands.checks import picture
from mmtlalign.commands.checks.picture import draw_samples
from mmtlalign.errors import UserError
from projects.reliability.tasks import DETECTOR

from ..conftest import ROOT, needs_operators
from ..tiny import CONFIG

FRUIT = (
    CONFIG
    + """
data_preprocessor.update(num_classes=2, to_rgb=True)
model['head']['num_classes'] = 2
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader['dataset'].update(data_root='data', data_prefix='train', pipeline=pipeline)
val_dataloader['dataset'].update(data_root='data', data_prefix='val')
train_cfg.update(max_epochs=20, val_interval=20)
param_scheduler = None
default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=20)
"""
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config with red apples and blue berries."""
    (tmp_path / 'fruit.py').write_text(FRUIT)
    for split, i in product(('train', 'val'), range(4)):
        for name, bgr in dict(apple=(0, 0, 255), berry=(255, 0, 0)).items():
            path = str(tmp_path / f'data/{split}/{name}/{i}.png')
            mmcv.imwrite(np.full((16, 16, 3), bgr, np.uint8), path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_lines_and_a_file(folder, capsys):
    (folder / 'data/train/.cache').mkdir()
    check.main(['fruit.py', '--json', 'out/found.json'])
    assert capsys.readouterr().out.splitlines() == [
        'images: train 8; val 8',
        'per class: train 8 images in 2 classes (apple 4, berry 4); '
        'val 8 images in 2 classes (apple 4, berry 4)',
        'left out: train 1 hidden folders (.cache); val nothing',
    ]
    train, val = json.loads((folder / 'out/found.json').read_text())
    assert train['counts'] == dict(apple=4, berry=4)
    assert train['left_out'] and not val['left_out']
    with pytest.raises(UserError, match='is a folder; name a file with --js'):
        check.main(['fruit.py', '--json', 'data'])


def colours(path):
    """Frequent saturated colours of a picture."""
    pixels = cv2.imread(str(path))[..., ::-1].reshape(-1, 3)
    strong = pixels[(pixels.max(1) > 200) & (pixels.min(1) < 40)]
    found, counts = np.unique(strong // 64, axis=0, return_counts=True)
    return {tuple(colour) for colour, count in zip(found.tolist(), counts) if count > 20_000}


@pytest.mark.slow
def test_the_picture_shows_colours_as_the_model_takes_them(folder, monkeypatch):
    check.main(['fruit.py', '--check-picture', 'samples.png'])
    assert colours('samples.png') == {(3, 0, 0), (0, 0, 3)}
    drawn, seen = [], picture._seen
    monkeypatch.setattr(picture, '_seen', lambda *a: drawn.append(seen(*a)) or drawn[-1])
    cfg = Config.fromfile('fruit.py')
    cfg.data_preprocessor.to_rgb = False
    draw_samples(cfg, 'swapped.png')
    assert cfg.train_dataloader.dataset.type == 'CustomDataset' and len(drawn) == 16
    assert drawn[0][0, 0].tolist() == [0, 0, 255]  # an apple, now blue


def dense_config(folder, masks):
    """Of one image with a box, and its mask."""
    Image.new('RGB', (40, 30), (200, 0, 0)).save(folder / '0.jpg')
    box = dict(id=1, image_id=1, category_id=1, bbox=[10, 5, 20, 15], area=300, iscrowd=0)
    box['segmentation'] = [[10, 5, 30, 5, 30, 20, 10, 20]]
    image = dict(id=1, file_name='0.jpg', width=40, height=30)
    content = dict(images=[image], categories=[dict(id=1, name='box')], annotations=[box])
    (folder / 'boxes.json').write_text(json.dumps(content))
    cfg = Config.fromstring(DETECTOR, '.py')
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(folder), data_prefix=dict(img=''), metainfo=dict(classes=('box',)))
    dataset.pipeline[1].with_mask = masks
    del dataset.pipeline[2]  # RandomFlip
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('masks', [False, True])
def test_boxes_and_masks_lie_where_they_are(tmp_path, masks, monkeypatch):
    needs_operators()
    shapes, layers = [], []

    def rectangle(corner, width, height, **kwargs):
        shapes.append((*corner, width, height))
        return Rectangle(corner, width, height, **kwargs)

    monkeypatch.setattr(picture, '_overlay', lambda ax, pixels, colour: layers.append(pixels))
    monkeypatch.setattr(picture, 'Rectangle', rectangle)
    draw_samples(dense_config(tmp_path, masks), str(tmp_path / 'out.png'))
    assert shapes == [(9.5, 4.5, 20, 15)] * 16
    assert len(layers) == 16 * masks
    expected = np.zeros((30, 40), bool)
    expected[5:20, 10:30] = True
    assert all((pixels != expected).mean() < 0.05 for pixels in layers)
    assert cv2.imread(str(tmp_path / 'out.png')).shape == (1280, 1280, 3)


def test_objects_are_outlined(tmp_path, monkeypatch):
    outlines = []
    real = picture._outline
    monkeypatch.setattr(
        picture, '_outline', lambda ax, pixels: outlines.append(pixels) or real(ax, pixels)
    )
    config = 'configs/classification/planted/object_deit-micro_1xb50-150e_planted-24px.py'
    cfg = Config.fromfile(ROOT / config)
    cfg.train_dataloader.dataset.pipeline = cfg.test_dataloader.dataset.pipeline
    draw_samples(cfg, str(tmp_path / 'out.png'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    places = np.linspace(0, len(dataset) - 1, 16).astype(int)
    expected = [dataset.get_data_info(int(i))['object_mask'].pixels > 127 for i in places]
    np.testing.assert_array_equal(outlines, expected)


@pytest.mark.slow
def test_training_and_test_read_the_data_by_names(here, ends_with, folder, capsys):
    """From a training on both classes to a test split that lacks the first:
    accuracy is that of the names, not of the folders that are there."""
    test = ('test.py', 'fruit.py', 'work_dirs/fruit/epoch_20.pth')
    here('train.py', 'fruit.py')
    assert 'left out: train nothing; val nothing' in capsys.readouterr().out
    for path in (folder / 'data/val/apple').iterdir():
        path.unlink()
    (folder / 'data/val/apple').rmdir()
    here(*test)
    assert 'accuracy/top1: 100.0000' in capsys.readouterr().out
    (folder / 'data/val/berry').rename(folder / 'data/val/cherry')
    assert "'cherry'" in ends_with(*test)
    (folder / 'data/val/cherry').rename(folder / 'data/val/berry')
    (folder / 'data/train/apple').rename(folder / 'data/train/zebra')
    assert "class 0 is 'apple' in checkpoint" in ends_with(*test)
