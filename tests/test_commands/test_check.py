"""The command that reads data, and what train and test say of them."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands import check
from mmtlalign.commands.checks import picture
from mmtlalign.commands.checks.picture import draw_samples
from mmtlalign.errors import UserError

from ..conftest import needs_operators
from ..tiny import run_tool

CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=2, mean=[0.] * 3, std=[1.] * 3,
                         to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmpretrain.VisionTransformer', arch=dict(
        embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8),
        img_size=8, patch_size=4),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=2,
              in_channels=8, loss=dict(type='CrossEntropyLoss')))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
def_ = dict(type='CustomDataset', data_root='data', pipeline=pipeline)
sampler = dict(type='DefaultSampler', shuffle=False)
collate = dict(type='default_collate')
train_dataloader = dict(batch_size=4, num_workers=0, sampler=sampler,
    collate_fn=collate, dataset=dict(data_prefix='train', **def_))
val_dataloader = dict(batch_size=4, num_workers=0, sampler=sampler,
    collate_fn=collate, dataset=dict(data_prefix='val', **def_))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=.1))
"""
NAMES = {'apple': (255, 0, 0), 'berry': (0, 0, 255)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config with red apples and blue berries."""
    (tmp_path / 'fruit.py').write_text(CONFIG)
    for split in ('train', 'val'):
        for name, colour in NAMES.items():
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new('RGB', (8, 8), colour).save(tmp_path / 'data' / split / name / f'{i}.png')
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


def test_a_place_that_cannot_be_written_is_refused_first(folder):
    with pytest.raises(UserError, match='is a folder; name a file with --js'):
        check.main(['fruit.py', '--json', 'data'])


def colours(path):
    """Frequent saturated colours of a picture."""
    pixels = cv2.imread(str(path))[..., ::-1].reshape(-1, 3)
    strong = pixels[(pixels.max(1) > 200) & (pixels.min(1) < 40)]
    found, counts = np.unique(strong // 64, axis=0, return_counts=True)
    return {tuple(colour) for colour, count in zip(found.tolist(), counts) if count > 20_000}


def test_the_picture_shows_colours_as_the_model_takes_them(folder):
    check.main(['fruit.py', '--check-picture', 'samples.png'])
    assert colours('samples.png') == {(3, 0, 0), (0, 0, 3)}
    drawn = []
    cfg = Config.fromfile('fruit.py')
    cfg.data_preprocessor.to_rgb = False
    first = cfg.train_dataloader.dataset
    seen = picture._seen
    try:
        picture._seen = lambda *a: drawn.append(seen(*a)) or drawn[-1]
        draw_samples(cfg, 'swapped.png')
    finally:
        picture._seen = seen
    assert first.type == 'CustomDataset' and len(drawn) == 16
    assert drawn[0][0, 0].tolist() == [0, 0, 255]  # an apple, now blue


def dense_config(tmp_path, masks):
    Image.new('RGB', (40, 30), (200, 0, 0)).save(tmp_path / '0.jpg')
    x1, y1, x2, y2 = 10, 5, 30, 20
    (tmp_path / 'boxes.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='0.jpg', width=40, height=30)],
                categories=[dict(id=1, name='box')],
                annotations=[
                    dict(
                        id=1,
                        image_id=1,
                        category_id=1,
                        bbox=[10, 5, 20, 15],
                        area=300,
                        iscrowd=0,
                        segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
                    )
                ],
            )
        )
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(data_preprocessor=dict(bgr_to_rgb=True)),
            train_dataloader=dict(
                dataset=dict(
                    type='CocoDataset',
                    data_root=str(tmp_path),
                    ann_file='boxes.json',
                    data_prefix=dict(img=''),
                    metainfo=dict(classes=('box',)),
                    pipeline=[
                        dict(type='mmtlalign.LoadAnnotatedImage'),
                        dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
                        dict(type='PackDetInputs'),
                    ],
                )
            ),
        )
    )


@pytest.mark.parametrize('masks', [False, True])
def test_boxes_and_masks_lie_where_they_are(tmp_path, masks, monkeypatch):
    needs_operators()
    shapes, layers = [], []
    monkeypatch.setattr(picture, '_overlay', lambda ax, pixels, colour: layers.append(pixels))
    monkeypatch.setattr(
        picture,
        'Rectangle',
        lambda corner, w, h, **kwargs: shapes.append((*corner, w, h)) or Plain(**kwargs),
    )
    draw_samples(dense_config(tmp_path, masks), str(tmp_path / 'out.png'))
    assert shapes == [(9.5, 4.5, 20, 15)] * 16
    assert len(layers) == 16 * masks
    for pixels in layers:
        expected = np.zeros((30, 40), bool)
        expected[5:20, 10:30] = True
        assert (pixels != expected).mean() < 0.05
    assert cv2.imread(str(tmp_path / 'out.png')).shape == (1280, 1280, 3)


def Plain(**kwargs):
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, **kwargs)


@pytest.mark.slow
def test_training_and_test_read_the_data_by_names(folder):
    """From a training on both classes to a test split that lacks the first:
    accuracy is that of the names, not of the folders that are there."""
    done = run_tool(
        'train.py', 'fruit.py', '--cfg-options', 'train_cfg.max_epochs=30', folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert 'left out: train nothing; val nothing' in done.stdout
    for path in (folder / 'data/val/apple').iterdir():
        path.unlink()
    (folder / 'data/val/apple').rmdir()
    checkpoint = 'work_dirs/fruit/epoch_30.pth'
    tested = run_tool('test.py', 'fruit.py', checkpoint, folder=folder)
    assert tested.returncode == 0, tested.stderr
    assert 'accuracy/top1: 100.0000' in tested.stdout + tested.stderr
    (folder / 'data/val/berry').rename(folder / 'data/val/cherry')
    tested = run_tool('test.py', 'fruit.py', checkpoint, folder=folder)
    assert tested.returncode == 1
    assert "'cherry'" in tested.stderr and tested.stderr.count('\n') == 1
    (folder / 'data/val/cherry').rename(folder / 'data/val/berry')
    (folder / 'data/train/apple').rename(folder / 'data/train/zebra')
    tested = run_tool('test.py', 'fruit.py', checkpoint, folder=folder)
    assert "class 0 is 'apple' in checkpoint" in tested.stderr
