"""One script looks at images with a classifier, detector or segmenter."""

import re
from pathlib import Path

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


def save(config, classes, path='a.pth'):
    """Random weights of a config's model, with the names of its classes; both paths."""
    model = mmtlalign.get_model(Config.fromfile(config))
    palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    meta = dict(classes=classes, palette=palette[: len(classes)])
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), path)
    return config, path


@pytest.fixture
def classifier(here):
    """Config and checkpoint of the tiny classifier."""
    return save('tiny.py', ('one', 'two', 'three'))


def dense(config):
    """Config and checkpoint of a detector or segmenter."""
    needs_operators()
    Path('dense.py').write_text(config)
    return save('dense.py', ('a', 'b'))


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, words, change, complaint',
    [
        (
            None,
            r': (one|two|three) \(0\.\d\d\)',
            'model.backbone.arch.num_layers=3',
            'TLAlignClassifier: 12 keys missing',
        ),
        (
            DETECTOR,
            r': \d+ objects of score 0.0 or',
            'model.neck.out_channels=16',
            'FasterRCNN: size mismatch',
        ),
        (SEGMENTER, r': (a|b) \d+%', 'model.backbone.depth=34', 'EncoderDecoder: .*keys missing'),
    ],
    ids=['classifier', 'detector', 'segmenter'],
)
def test_every_task_writes_pictures_and_refuses_weights_that_do_not_fit(
    here, ends_with, images, classifier, tmp_path, capsys, config, words, change, complaint
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
    said = ends_with(DEMO, 'photos', *model, '--cfg-options', change)
    assert re.search(f"'a.pth' does not fit the config's {complaint}", said)


@pytest.mark.slow
def test_a_model_of_the_zoo_by_its_name(here, images, capsys):
    name = 'cutmix_deit-mini_1xb128-128e_cifar10-2500'
    here(DEMO, 'photos/a.png', name, '--device', 'cpu')
    classes = mmtlalign.get_model(name, pretrained=True).dataset_meta['classes']
    said = capsys.readouterr().out
    assert re.search(rf'photos/a.png: ({"|".join(classes)}) \(', said)
    assert 'Predicting' not in said  # no bar for a single file


@pytest.mark.slow
def test_no_picture_is_written_over_another_and_labels_on_small_images_have_room(here, classifier):
    Path('more/deep').mkdir(parents=True)
    sizes = {'a.jpg': (32, 28), 'more/a.jpg': (300, 230), 'more/deep/a.png': (4, 112)}
    for path, size in sizes.items():
        cv2.imwrite(path, np.zeros((*size, 3), np.uint8))
    here(DEMO, '**/a.*g', *classifier, '--out-dir', 'out')
    drawn = {path.name: cv2.imread(str(path)).shape[:2] for path in Path('out').iterdir()}
    assert drawn == {'a.png': (256, 224), 'a.2.png': (300, 230), 'a.3.png': (32, 896)}


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments, line',
    [
        ('gone.png tiny.py a.pth', "'gone.png' is no image, no folder with images in it"),
        ('empty tiny.py a.pth', "'empty' is no image, no folder with images in it"),
        ('photos gone.py a.pth', "config 'gone.py' does"),
        ('photos tiny.py', "no weights are published for 'tiny': train it, and give its check"),
        ('photos tiny.py b.pth', "checkpoint 'b.pth' does not exist"),
        ('photos/broken.jpg tiny.py a.pth', "none of the 1 files of 'photos/broken.jpg' can be re"),
        ('photos tiny.py a.pth --out-dir tiny.py', "folder 'tiny.py' cannot be made (File exists)"),
        ('photos tiny.py a.pth --device foo', "device 'foo' cannot be used (Expected one of cpu, "),
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
    save('tiny.py', ('one', 'two'), 'two.pth')
    said = ends_with(DEMO, *arguments.split())
    assert said.startswith(f'image_demo.py: {line}')
    assert '\n' not in said
