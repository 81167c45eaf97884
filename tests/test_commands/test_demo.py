"""One script looks at images with a classifier, detector or segmenter."""

import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

import mmtlalign

from ..conftest import needs_operators
from .test_dense_tasks import DETECTOR, SEGMENTER

DEMO = '../demo/image_demo.py'
CLASSES = {'tiny.py': ('one', 'two', 'three'), 'dense.py': ('a', 'b')}


@pytest.fixture
def images(tmp_path):
    """A folder of two images, one file that is none, and a text."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.jpg'):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (32, 32, 3), np.uint8))
    (folder / 'broken.jpg').write_bytes(b'no image')
    (folder / 'notes.txt').write_text('no image either')
    return folder


def save(config, path, classes=('one', 'two', 'three')):
    """Random weights of a config's model, with the names of its classes."""
    model = mmtlalign.get_model(Config.fromfile(config))
    palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    meta = dict(classes=classes, palette=palette[: len(classes)])
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), path)


def dense(tmp_path, config):
    """Write a detector's or segmenter's config; skip without its host."""
    needs_operators()
    (tmp_path / 'dense.py').write_text(config)
    return 'dense.py'


@pytest.fixture(params=['classifier', 'detector', 'segmenter'])
def task(request, tmp_path, here):
    """Config, and what is said of an image."""
    if request.param == 'classifier':
        return 'tiny.py', r': (one|two|three) \(0\.\d\d\)'
    if request.param == 'detector':
        return dense(tmp_path, DETECTOR), r': \d+ objects of score 0.0 or'
    return dense(tmp_path, SEGMENTER), r': (a|b) \d+%'


def test_every_task_writes_pictures(here, images, task, tmp_path, capsys):
    config, words = task
    save(config, 'a.pth', CLASSES[config])
    here(DEMO, 'photos', config, 'a.pth', '--score-thr', '0', '--device', 'cpu')
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


def test_a_model_of_the_zoo_by_its_name(here, images, capsys):
    name = 'cutmix_deit-mini_1xb128-128e_cifar10-2500'
    here(DEMO, 'photos/a.png', name, '--device', 'cpu')
    classes = mmtlalign.get_model(name, pretrained=True).dataset_meta['classes']
    assert re.search(rf'photos/a.png: ({"|".join(classes)}) \(', capsys.readouterr().out)


@pytest.fixture
def classifier(here):
    """Config and checkpoint of the tiny classifier."""
    save('tiny.py', 'a.pth')
    return 'tiny.py', 'a.pth'


def test_patterns_and_single_files(here, images, classifier, tmp_path, capsys):
    here(DEMO, 'photos/[ab].*', *classifier, '--out-dir', 'out')
    assert '2 of 2 images' in capsys.readouterr().out
    here(DEMO, 'photos/a.png', *classifier, '--out-dir', 'out1')
    assert 'Predicting' not in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['a.png', 'b.png']
    assert [p.name for p in (tmp_path / 'out1').iterdir()] == ['a.png']


def test_no_picture_is_written_over_another(here, images, classifier, tmp_path):
    (tmp_path / 'more/deep').mkdir(parents=True)
    for copy in ('more/a.jpg', 'more/deep/a.png'):
        (tmp_path / copy).write_bytes((images / 'a.png').read_bytes())
    here(DEMO, '**/a.*g', *classifier, '--out-dir', 'out')
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['a.2.png', 'a.3.png', 'a.png']


@pytest.mark.parametrize(
    'arguments, line',
    [
        (
            ['gone.png', 'tiny.py', 'a.pth'],
            "image_demo.py: 'gone.png' is no image, no folder with images in it",
        ),
        (
            ['empty', 'tiny.py', 'a.pth'],
            "image_demo.py: 'empty' is no image, no folder with images in it",
        ),
        (['photos', 'gone.py', 'a.pth'], "image_demo.py: config 'gone.py' does"),
        (
            ['photos', 'tiny.py'],
            "image_demo.py: no weights are published for 'tiny"
            "': train it, and give its checkpoint (CHECKPOINT of a command, ",
        ),
        (['photos', 'tiny.py', 'b.pth'], "image_demo.py: checkpoint 'b.pth' does not exist"),
        (
            ['photos/broken.jpg', 'tiny.py', 'a.pth'],
            "image_demo.py: none of the 1 files of 'photos/broken.jpg' can be read",
        ),
        (
            ['photos', 'tiny.py', 'a.pth', '--out-dir', 'tiny.py'],
            "image_demo.py: folder 'tiny.py' cannot be made (File exists); choose "
            'another with --out-dir',
        ),
        (
            ['photos', 'tiny.py', 'a.pth', '--device', 'foo'],
            "image_demo.py: device 'foo' cannot be used (Expected one of cpu, ",
        ),
        (
            ['photos', 'tiny.py', 'a.pth', '--cfg-options', 'model.backbone.arch.num_layers=3'],
            "image_demo.py: checkpoint 'a.pth' does not fit the config's TLAlignCl",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(ends_with, classifier, images, tmp_path, arguments, line):
    (tmp_path / 'empty').mkdir()
    said = ends_with(DEMO, *arguments)
    assert said.startswith(line)
    assert '\n' not in said


def test_a_score_is_at_most_one(ends_with, capsys):
    assert ends_with(DEMO, 'a', 'b', 'c', '--score-thr', '7') == 2
    assert '--score-thr 7.0 must lie between' in capsys.readouterr().err


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
    ends_with, images, tmp_path, config, change, complaint
):
    path = dense(tmp_path, config)
    save(path, 'a.pth', CLASSES[path])
    said = ends_with(DEMO, 'photos', path, 'a.pth', '--cfg-options', change)
    assert re.search(f"'a.pth' does not fit the config's {complaint}", said)


@pytest.mark.parametrize(
    'classes, line',
    [
        (('one', 'two'), 'model.head.num_classes is 3, but checkpoint .a.pth. has 2 classes'),
        (
            ('two', 'one', 'three'),
            "class 0 is 'two' in checkpoint 'a.pth' and 'one' in test_dataloader.dataset",
        ),
    ],
)
def test_names_of_a_checkpoint_are_those_of_the_config(ends_with, images, tmp_path, classes, line):
    """The demo would show other names than what was meant."""
    save('tiny.py', 'a.pth', classes)
    said = ends_with(
        DEMO,
        'photos',
        'tiny.py',
        'a.pth',
        '--cfg-options',
        'test_dataloader.dataset.metainfo.classes=[one,two,three]',
    )
    assert re.search(line, said)
