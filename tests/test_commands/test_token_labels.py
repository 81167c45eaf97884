"""Token labels are made, gone on with, read and trained on."""

import hashlib
import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.utils import register_all_modules
from PIL import Image
from torch.nn.functional import avg_pool2d

from mmtlalign.commands import token_labels
from mmtlalign.datasets import TokenLabelStore
from mmtlalign.datasets.token_label_annotator import TokenLabelAnnotator
from mmtlalign.errors import UserError
from projects.reliability.tasks import ANNOTATOR, TOKEN_LABELS

from ..tiny import write_project

SIZE = 48
CHECKPOINT = 'annotator.pth'
CLASSES = ('class0', 'class1', 'class2')


def build_annotator():
    return MODELS.build(Config.fromfile('annotator.py').model)


def write_annotator(folder, classes=CLASSES, config=ANNOTATOR, seed=0):
    """Config and checkpoint with random weights, batch norms included."""
    (folder / 'annotator.py').write_text(config)
    register_all_modules(init_default_scope=True)
    generator = torch.Generator().manual_seed(seed)
    state = build_annotator().state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
            if value.ndim == 1 and 'bias' not in key:
                value.add_(1).abs_()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=classes))), CHECKPOINT)


def make(*more, force=True, checkpoint=CHECKPOINT):
    """Run the tool; forced by default, since the annotator's weights are random."""
    options = ['--size', SIZE, '--device', 'cpu', '--batch-size', 5, *more, *['--force'] * force]
    token_labels.main(['annotator.py', checkpoint, 'tiny.py', *map(str, options)])


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A project whose maps have been made at once, by one process."""
    folder = tmp_path_factory.mktemp('made')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_project(folder, TOKEN_LABELS)
        write_annotator(folder)
        make()
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of it, without the maps."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, ignore=lambda *args: ['maps'])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(path):
    store = TokenLabelStore(path)
    return {name: np.array(array) for name, array in store._arrays.items()}


def assert_maps(path, expected, **tolerance):
    found = contents(path)
    for name, array in contents(expected).items():
        np.testing.assert_allclose(found[name], array, **tolerance)


# An annotator of images in memory, which are RGB
IN_MEMORY = f"""{ANNOTATOR}
train_dataloader = dict(dataset=dict(type='CIFAR10', pipeline=[dict(type='PackInputs')]))
"""


@pytest.mark.slow
def test_maps_are_those_of_the_annotator(project, capsys):
    """Against features of every image as Pillow reads it, position by position."""
    make('--top-k', 2)
    judged, made = capsys.readouterr().out.splitlines()
    assert judged.startswith('annotator: top-1 ')
    assert made == 'maps: 12 maps of 6x6, top 2 of 3 classes'
    store = TokenLabelStore('maps')
    model = build_annotator()
    model.load_state_dict(torch.load(CHECKPOINT)['state_dict'])
    model.eval()
    names = open('maps/names.txt').read().split()
    assert len(set(names)) == 12
    for row, name in enumerate(names):
        image = Image.open(project / 'images' / name).convert('RGB')
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.float32)[..., ::-1].copy()
        inputs = torch.from_numpy((pixels - 127) / 60).permute(2, 0, 1)
        with torch.no_grad():
            feature = model.backbone(inputs[None])[0][0]
        labels = store.read(row, name, (16, 16))
        for y in range(6):
            for x in range(6):
                probs = model.head.fc(feature[:, y, x]).softmax(0)
                top = probs.argsort(descending=True)[:2]
                assert labels.ids[y, x].tolist() == top.tolist()
                np.testing.assert_allclose(labels.scores[y, x], probs[top].detach(), atol=2e-3)


@pytest.fixture
def painted(project, monkeypatch):
    """Images of one colour each class, and an annotator of RGB that knows them."""
    for path in project.glob('images/*/*.png'):
        pixels = np.random.randint(0, 60, (16, 16, 3), np.uint8)
        pixels[..., int(path.parent.name[-1])] += 190
        Image.fromarray(pixels).save(path)
    (project / 'annotator.py').write_text(IN_MEMORY)

    def say(position_scores):
        monkeypatch.setattr(TokenLabelAnnotator, 'position_scores', position_scores)

    say(lambda self, inputs: avg_pool2d(inputs, 8).movedim(1, -1))
    monkeypatch.setattr(TokenLabelAnnotator, 'find_grid', lambda *args: (6, 6))
    return say


def test_an_annotator_no_better_than_chance_is_refused(project, painted, capsys):
    """The same one, told that it was trained on BGR: red is blue to it."""
    make(force=False)
    assert capsys.readouterr().out.splitlines()[0] == (
        'annotator: top-1 100.00 % on 12 labelled images, mean over classes '
        '100.00 %, chance 33.33 %'
    )
    index = TokenLabelStore('maps').index
    assert index['accuracy'] == dict(top1=100.0, images=12)
    digest = hashlib.sha256((project / CHECKPOINT).read_bytes()).hexdigest()
    assert index['annotator']['sha256'] == digest

    (project / 'annotator.py').write_text(ANNOTATOR)
    said = 'no better than chance .top-1 33.33 % on 12 labelled images.*74.16 % can be luck.*--forc'
    with pytest.raises(UserError, match=said):  # 1/3 + 3 sqrt(1/3 * 2/3 / 12)
        make('--out', 'other', force=False)
    assert not (project / 'other').exists()
    make('--out', 'other', '--score-mode', 'logits')
    index = TokenLabelStore('other').index
    assert index['accuracy']['top1'] == pytest.approx(100 / 3)
    assert index['score_mode'] == 'logits'
    assert not np.allclose(contents('other')['scores'].sum(-1, dtype=float), 1)


def test_naming_the_most_frequent_class_is_no_merit(project, painted):
    """7 of 12 images are of one class, which all are said to be."""
    for i in (3, 6, 9):
        (project / f'images/class0/{i}.png').rename(project / f'images/class1/{i}.png')
    painted(lambda self, inputs: torch.tensor([0.0, 1, 0]).expand(len(inputs), 6, 6, 3))
    with pytest.raises(UserError, match='top-1 58.33 %.* classes 33.33 %'):
        make(force=False)


def test_images_without_labels_cannot_judge(project, capsys):
    unlabelled = f'dict(with_label=False, metainfo=dict(classes={CLASSES}))'
    write_project(project, f"{TOKEN_LABELS}train_dataloader['dataset'].update({unlabelled})")
    make(force=False)
    assert 'not held against labels' in capsys.readouterr().out
    assert TokenLabelStore('maps').index['accuracy'] is None


@pytest.mark.slow
def test_interrupted_and_gone_on_with(made, project, monkeypatch):
    write = TokenLabelStore.write
    written = []

    def dies(store, rows, *args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(rows)
        write(store, rows, *args)

    monkeypatch.setattr(TokenLabelStore, 'write', dies)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert TokenLabelStore('maps', writable=True).done.sum() == 10
    for expected in ([[10, 11]], []):  # nothing twice
        written.clear()
        make()
        assert [rows.tolist() for rows in written] == expected
        assert_maps('maps', made / 'maps', rtol=0)


@pytest.mark.slow
def test_several_processes(made, project, monkeypatch, capsys):
    """As forks, which need not import everything again."""
    fork = multiprocessing.get_context('fork')
    monkeypatch.setattr(multiprocessing, 'get_context', lambda method: fork)
    make('--processes', 2)
    said = capsys.readouterr()
    assert said.out.endswith('\nmaps: 12 maps of 6x6, top 3 of 3 classes\n')
    assert '12/12' in said.err
    assert_maps('maps', made / 'maps', rtol=1e-7, atol=1e-3)

    def fail(self, dataset, store, part, parts):
        raise UserError(f'{part} of {parts}')

    monkeypatch.setattr(TokenLabelAnnotator, 'annotate', fail)
    with pytest.raises(UserError, match='a process has failed, .*: start again to go on'):
        make('--processes', 2, '--out', 'failed')


RESNET = """dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  stem_channels=4, out_indices=(3, ))"""
CONVNEXT = """dict(type='ConvNeXt', arch=dict(
            depths=[1, 1, 1, 1], channels=[4, 8, 16, 32]))"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'classes, change, message',
    [
        (CLASSES, ('GlobalAveragePooling', 'GeneralizedMeanPooling'), 'ResNet_CIFAR.*its neck is'),
        (
            CLASSES,
            ('LinearClsHead', 'VisionTransformerClsHead'),
            'its head VisionTransformerClsHea',
        ),
        (CLASSES, (RESNET, CONVNEXT), r'ConvNeXt.*shape \(5, 32\)'),  # norm after pooling
        (
            ('class0', 'class2', 'class1'),
            ('', ''),
            "class 1 is 'class2' in checkpoint '.*' and 'class1' in tiny.py.*as other classes",
        ),
        (CLASSES[:2], ('', ''), "2 classes in checkpoint '.*', 3 in tiny.py.*as other classes"),
        (None, ('num_classes=3, in', 'num_classes=4, in'), "knows 4 classes, 'tiny.py' has 3"),
    ],
)
def test_other_annotators_are_refused(project, classes, change, message):
    write_annotator(project, classes, ANNOTATOR.replace(*change))
    with pytest.raises(UserError, match=message):
        make()


def test_maps_of_another_annotator_are_not_gone_on_with(made, project):
    with pytest.raises(UserError, match=r'grid=\[6, 6\] instead of \[8, 8\]'):
        make('--size', 64, '--out', made / 'maps')
    write_annotator(project, seed=1)
    with pytest.raises(UserError, match="annotator=.*'sha256'"):
        make('--out', made / 'maps')


def test_what_is_refused_before_anything_is_made(project, monkeypatch, capsys):
    address = 'https://example.invalid/annotator.pth'
    with pytest.raises(UserError, match=f"'{address}' is no file.*download"):
        make(checkpoint=address)
    with pytest.raises(SystemExit):
        make('--workers', -1)
    assert 'argument --workers: -1 must be at least 0' in capsys.readouterr().err
    scores = TokenLabelAnnotator.position_scores
    monkeypatch.setattr(TokenLabelAnnotator, 'position_scores', lambda *args: scores(*args) + 1)
    with pytest.raises(UserError, match='differs from its own logits by 1.0'):
        make()
    write_project(project)  # without LoadTokenLabels
    with pytest.raises(UserError, match="'tiny.py' has no .*--out"):
        make()
    assert not (project / 'maps').exists()


@pytest.mark.slow
def test_training(here, ends_with, made, tmp_path):
    write_project(tmp_path, TOKEN_LABELS.replace("store='maps'", f"store='{made}/maps'"))
    here('train.py', 'tiny.py')
    (log,) = tmp_path.glob('work_dirs/tiny/*/*.log')
    assert 'loss_dense' in log.read_text()
    (tmp_path / 'images/class1/1.png').rename(tmp_path / 'images/class1/13.png')
    assert ends_with('train.py', 'tiny.py', '--overwrite').startswith(
        f"train.py: token labels '{made}/maps' belong to 12 images, the data set has "
        "12: number 4 is 'class1/1.png' there and 'class1/10.png' here; "
    )
