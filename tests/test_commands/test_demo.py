"""One script looks at images with a classifier, detector or segmenter."""

import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

import mmtlalign
from projects.reliability.tasks import DETECTOR, SEGMENTER

from ..conftest import needs_operators

DEMO = '../demo/image_demo.py'


@pytest.fixture
def images(here, tmp_path):
    """A folder of two images, one file that is none, and a text."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.jpg'):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (32, 32, 3), np.uint8))
    (folder / 'broken.jpg').write_bytes(b'no image')
    (folder / 'notes.txt').write_text('no image either')
    return folder


def save(config, path, classes):
    """Random weights of a config's model, with the names of its classes."""
    model = mmtlalign.get_model(Config.fromfile(config))
    palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    meta = dict(classes=classes, palette=palette[: len(classes)])
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), path)


@pytest.fixture
def classifier(here):
    """Config and checkpoint of the tiny classifier."""
    save('tiny.py', 'a.pth', ('one', 'two', 'three'))
    return 'tiny.py', 'a.pth'


@pytest.fixture
def dense(here, tmp_path):
    """Config and checkpoint of a detector or segmenter."""

    def write(config):
        needs_operators()
        (tmp_path / 'dense.py').write_text(config)
        save('dense.py', 'a.pth', ('a', 'b'))
        return 'dense.py', 'a.pth'

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, words',
    [
        (None, r': (one|two|three) \(0\.\d\d\)'),
        (DETECTOR, r': \d+ objects of score 0.0 or'),
        (SEGMENTER, r': (a|b) \d+%'),
    ],
    ids=['classifier', 'detector', 'segmenter'],
)
def test_every_task_writes_pictures(
    here, images, classifier, dense, tmp_path, capsys, config, words
):
    model = dense(config) if config else classifier
    here(DEMO, 'photos', *model, '--score-thr', '0', '--device', 'cpu')
    said = capsys.readouterr().out
    for name in ('a.png', 'b.jpg'):
        original = cv2.imread(str(images / name))
        picture = cv2.imread(str(tmp_path / 'work_dirs/demo' / name).replace('.jpg', '.png'))
        assert picture.shape[2] == 3 and min(picture.shape[:2]) >= 32
        if picture.shape == original.shape:
            assert (picture != original).any()
        assert re.search(name + words, said)
    assert "warning: 'photos/broken.jpg' cannot be read" in said
    assert 'notes.txt' not in said
    assert '2 of 3 images, pictures in work_dirs/demo; 1 could not be' in said
    assert 'Predicting' in said


@pytest.mark.slow
def test_a_model_of_the_zoo_by_its_name(here, images, capsys):
    name = 'cutmix_deit-mini_1xb128-128e_cifar10-2500'
    here(DEMO, 'photos/a.png', name, '--device', 'cpu')
    classes = mmtlalign.get_model(name, pretrained=True).dataset_meta['classes']
    said = capsys.readouterr().out
    assert re.search(rf'photos/a.png: ({"|".join(classes)}) \(', said)
    assert 'Predicting' not in said  # no bar for a single file


def test_no_picture_is_written_over_another(here, images, classifier, tmp_path):
    (tmp_path / 'more/deep').mkdir(parents=True)
    for copy in ('more/a.jpg', 'more/deep/a.png'):
        (tmp_path / copy).write_bytes((images / 'a.png').read_bytes())
    here(DEMO, '**/a.*g', *classifier, '--out-dir', 'out')
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['a.2.png', 'a.3.png', 'a.png']


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments, line',
    [
        ('gone.png tiny.py a.pth', "'gone.png' is no image, no folder with images in it"),
        ('empty tiny.py a.pth', "'empty' is no image, no folder with images in it"),
        ('photos gone.py a.pth', "config 'gone.py' does"),
        (
            'photos tiny.py',
            "no weights are published for 'tiny': train it, and give its checkpoint",
        ),
        ('photos tiny.py b.pth', "checkpoint 'b.pth' does not exist"),
        ('photos/broken.jpg tiny.py a.pth', "none of the 1 files of 'photos/broken.jpg' can be re"),
        ('photos tiny.py a.pth --out-dir tiny.py', "folder 'tiny.py' cannot be made (File exists)"),
        ('photos tiny.py a.pth --device foo', "device 'foo' cannot be used (Expected one of cpu, "),
        (
            'photos tiny.py a.pth --cfg-options model.backbone.arch.num_layers=3',
            "checkpoint 'a.pth' does not fit the config's TLAlignCl",
        ),
        (
            'photos tiny.py a.pth --cfg-options '
            'test_dataloader.dataset.metainfo.classes=[two,one,three]',  # other names would show
            "class 0 is 'one' in checkpoint 'a.pth' and 'two' in test_dataloader.dataset",
        ),
        ('photos tiny.py two.pth', "model.head.num_classes is 3, but checkpoint 'two.pth' has 2 c"),
    ],
)
def test_a_mistake_is_told_in_one_line(ends_with, classifier, images, tmp_path, arguments, line):
    (tmp_path / 'empty').mkdir()
    save('tiny.py', 'two.pth', ('one', 'two'))
    said = ends_with(DEMO, *arguments.split())
    assert said.startswith(f'image_demo.py: {line}')
    assert '\n' not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    'size, drawn', [((32, 28), (256, 224)), ((300, 230), (300, 230)), ((4, 112), (32, 896))]
)
def test_labels_on_small_images_have_room(here, classifier, tmp_path, size, drawn):
    cv2.imwrite('a.png', np.zeros((*size, 3), np.uint8))
    here(DEMO, 'a.png', *classifier)
    picture = cv2.imread(str(tmp_path / 'work_dirs/demo/a.png'))
    assert picture.shape[:2] == drawn


@pytest.mark.parametrize(
    'config, change, complaint',
    [
        (DETECTOR, 'model.neck.out_channels=16', 'FasterRCNN: size mismatch'),
        (SEGMENTER, 'model.backbone.depth=34', 'EncoderDecoder: .*keys missing'),
    ],
    ids=['detector', 'segmenter'],
)
def test_no_dense_model_runs_on_weights_that_do_not_fit(
    ends_with, images, dense, config, change, complaint
):
    said = ends_with(DEMO, 'photos', *dense(config), '--cfg-options', change)
    assert re.search(f"'a.pth' does not fit the config's {complaint}", said)
