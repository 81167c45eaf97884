"""Token labels are made, gone on with, read and trained on."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.utils import register_all_modules
from PIL import Image

from mmtlalign.commands import token_labels
from mmtlalign.datasets import TokenLabelStore
from mmtlalign.datasets.token_label_annotator import TokenLabelAnnotator
from mmtlalign.errors import UserError

from ..tiny import run_tool, write_project

ANNOTATOR = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  stem_channels=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
"""
# the tiny training on token labels
TOKEN_LABELS = """
data_preprocessor.update(num_classes=3)
model = dict(
    type='mmtlalign.TokenLabelClassifier',
    backbone=dict(
        type='mmtlalign.LVViT', img_size=16, patch_size=4, out_type='raw',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                  feedforward_channels=32, stem_channels=8)),
    head=dict(
        type='mmtlalign.TokenLabelHead', num_classes=3, in_channels=16,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=.1,
                  mode='original')),
    train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', patch_size=4)]))
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='mmtlalign.LoadTokenLabels', store='maps'),
    dict(type='mmtlalign.RandomFlip', prob=.5),
    dict(type='mmtlalign.RandAugment', policies='timm_increasing',
         num_policies=2, magnitude_level=9),
    dict(type='mmtlalign.RandomResizedCrop', scale=16),
    dict(type='PackInputs', algorithm_keys=('token_labels', ))]
custom_hooks = [dict(type='mmtlalign.ResumeRandomState'),
                dict(type='mmtlalign.CheckTokenLabels')]
train_cfg['max_epochs'] = 1
"""
SIZE = 48


@pytest.fixture(scope='module')
def tool():
    return token_labels


def write_annotator(folder, classes=('class0', 'class1', 'class2'), config=ANNOTATOR, seed=0):
    """Config and checkpoint with random weights, batch norms included."""
    (folder / 'annotator.py').write_text(config)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromfile(folder / 'annotator.py').model)
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
            if value.ndim == 1 and 'bias' not in key:
                value.add_(1).abs_()
    torch.save(
        dict(state_dict=state, meta=dict(dataset_meta=dict(classes=classes))),
        folder / 'annotator.pth',
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_project(tmp_path, TOKEN_LABELS)
    write_annotator(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(*more, force=True):
    """Forced by default, since the annotator's weights are random."""
    return [
        'annotator.py',
        'annotator.pth',
        'tiny.py',
        '--size',
        str(SIZE),
        '--device',
        'cpu',
        '--batch-size',
        '5',
        *map(str, more),
        *['--force'] * force,
    ]


@pytest.fixture
def make(tool, monkeypatch):
    """Run the tool in this process."""

    def run(*more, force=True):
        monkeypatch.setattr(sys, 'argv', ['make_token_labels.py', *arguments(*more, force=force)])
        tool.main()

    return run


def contents(path='maps'):
    store = TokenLabelStore(path)
    return {name: np.array(array) for name, array in store._arrays.items()}


def test_maps_are_those_of_the_annotator(project, make, capsys):
    """Against features of every image, position by position."""
    make('--top-k', 2)
    judged, made = capsys.readouterr().out.splitlines()
    assert judged.startswith('annotator: top-1 ')
    assert made == 'maps: 12 maps of 6x6, top 2 of 3 classes'
    compare_with_annotator(project, rgb=False)


def compare_with_annotator(project, rgb):
    """Hold all maps against the annotator on files read by Pillow."""
    store = TokenLabelStore('maps')
    model = MODELS.build(Config.fromfile('annotator.py').model)
    model.load_state_dict(torch.load('annotator.pth')['state_dict'])
    model.eval()
    names = open('maps/names.txt').read().split()
    assert len(set(names)) == 12
    for row, name in enumerate(names):
        image = Image.open(project / 'images' / name).convert('RGB')
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.float32)
        pixels = pixels if rgb else pixels[..., ::-1].copy()
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


# An annotator of images in memory, which are RGB
IN_MEMORY = (
    ANNOTATOR
    + """
train_dataloader = dict(dataset=dict(
    type='CIFAR10', pipeline=[dict(type='PackInputs')]))
"""
)


def test_files_reach_an_annotator_of_arrays_as_rgb(project, make):
    write_annotator(project, config=IN_MEMORY)
    make('--top-k', 2)
    compare_with_annotator(project, rgb=True)


def test_a_loader_with_a_scope_is_one(project, make):
    write_project(project, TOKEN_LABELS.replace("'LoadImageFromFile'", "'mmcv.LoadImageFromFile'"))
    make('--top-k', 2)
    compare_with_annotator(project, rgb=False)


COLOURS = np.array([(220, 30, 30), (30, 220, 30), (30, 30, 220)])


def paint(project):
    """Images of one colour each class, and an annotator that knows them,
    trained on arrays: its features are the means of channels."""
    for path in project.glob('images/*/*.png'):
        colour = COLOURS[int(path.parent.name[-1])]
        noise = np.random.randint(-30, 30, (16, 16, 3))
        Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(path)
    write_annotator(project, config=IN_MEMORY)
    model = MODELS.build(Config.fromfile('annotator.py').model)
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    backbone = model.backbone
    for name, module in backbone.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for key in ('weight', 'running_var'):
                state[f'backbone.{name}.{key}'][:] = 1
    state['backbone.conv1.weight'][range(3), range(3), 1, 1] = 1
    for i in (2, 3, 4):  # where the number of channels grows
        weight = state[f'backbone.layer{i}.0.downsample.0.weight']
        weight[range(3), range(3), 0, 0] = 1
    state['head.fc.weight'][range(3), range(3)] = 9
    torch.save(
        dict(
            state_dict=state, meta=dict(dataset_meta=dict(classes=('class0', 'class1', 'class2')))
        ),
        'annotator.pth',
    )


def test_accuracy_of_the_annotator_is_said_and_kept(project, make, capsys):
    paint(project)
    make(force=False)
    assert capsys.readouterr().out.splitlines()[0] == (
        'annotator: top-1 100.00 % on 12 labelled images, mean over classes '
        '100.00 %, chance 33.33 %'
    )
    assert TokenLabelStore('maps').index['accuracy'] == dict(top1=100.0, images=12)


def test_an_annotator_no_better_than_chance_is_refused(project, make):
    """The same one, told that it was trained on BGR: red is blue to it."""
    paint(project)
    (project / 'annotator.py').write_text(ANNOTATOR)
    with pytest.raises(
        UserError,
        match='no better than chance .top-1 33.33 '
        '% on 12 labelled images.*74.16 % can be luck.*--forc',
    ):
        make(force=False)  # 1/3 + 3 sqrt(1/3 * 2/3 / 12)
    assert not (project / 'maps').exists()
    make()
    assert TokenLabelStore('maps').index['accuracy']['top1'] == (pytest.approx(100 / 3))


def test_naming_the_most_frequent_class_is_no_merit(project, make, tool, monkeypatch):
    """7 of 12 images are of one class, which all are said to be."""
    paint(project)
    for i in (3, 6, 9):
        (project / f'images/class0/{i}.png').rename(project / f'images/class1/{i}.png')
    monkeypatch.setattr(
        TokenLabelAnnotator,
        'position_scores',
        lambda self, inputs: torch.tensor([0.0, 1, 0]).expand(len(inputs), 6, 6, 3),
    )
    monkeypatch.setattr(TokenLabelAnnotator, 'find_grid', lambda *args: (6, 6))
    with pytest.raises(UserError, match='top-1 58.33 %.* classes 33.33 %'):
        make(force=False)


def test_images_without_labels_cannot_judge(project, make, capsys):
    write_project(
        project,
        TOKEN_LABELS
        + """
train_dataloader['dataset'].update(
    with_label=False, metainfo=dict(classes=('class0', 'class1', 'class2')))
""",
    )
    make(force=False)
    assert 'not held against labels' in capsys.readouterr().out
    assert TokenLabelStore('maps').index['accuracy'] is None


def test_interrupted_and_gone_on_with(project, make, monkeypatch):
    make('--out', 'whole')
    write = TokenLabelStore.write
    made = []

    def dies(store, rows, *args):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(rows)
        write(store, rows, *args)

    monkeypatch.setattr(TokenLabelStore, 'write', dies)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert TokenLabelStore('maps', writable=True).done.sum() == 10
    made.clear()
    make()
    assert [rows.tolist() for rows in made] == [[10, 11]]  # nothing twice
    expected = contents('whole')
    for name, array in contents().items():
        np.testing.assert_array_equal(array, expected[name])
    made.clear()
    make()
    assert made == []


def test_several_processes(project, make):
    done = run_tool(
        'dataset_tools/make_token_labels.py', *arguments('--processes', 2), folder=project
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('\nmaps: 12 maps of 6x6, top 3 of 3 classes\n')
    assert '12/12' in done.stderr
    make('--out', 'alone')
    expected = contents('alone')
    for name, array in contents().items():
        np.testing.assert_allclose(array, expected[name], atol=1e-3)


def test_training(here, project, make):
    make()
    here('train.py', 'tiny.py')
    (log,) = project.glob('work_dirs/tiny/*/*.log')
    assert 'loss_dense' in log.read_text()


def test_logits(project, make):
    make('--score-mode', 'logits')
    assert TokenLabelStore('maps').index['score_mode'] == 'logits'
    assert not np.allclose(contents()['scores'].sum(-1, dtype=float), 1)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            ('GlobalAveragePooling', 'GeneralizedMeanPooling'),
            'ResNet_CIFAR.*its neck is GeneralizedMeanPooling',
        ),
        (('LinearClsHead', 'VisionTransformerClsHead'), 'its head VisionTransformerClsHead'),
    ],
)
def test_other_annotators_are_refused(project, make, change, message):
    write_annotator(project, config=ANNOTATOR.replace(*change))
    with pytest.raises(UserError, match=message):
        make()


def test_norm_after_pooling_is_refused(project, make):
    write_annotator(
        project,
        config=ANNOTATOR.replace(
            """dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  stem_channels=4, out_indices=(3, ))""",
            """dict(type='ConvNeXt', arch=dict(
            depths=[1, 1, 1, 1], channels=[4, 8, 16, 32]))""",
        ),
    )
    with pytest.raises(UserError, match=r'ConvNeXt.*shape \(5, 32\)'):
        make()


def test_what_does_not_average_to_the_prediction_is_refused(project, make, tool, monkeypatch):
    scores = TokenLabelAnnotator.position_scores
    monkeypatch.setattr(TokenLabelAnnotator, 'position_scores', lambda *args: scores(*args) + 1)
    with pytest.raises(UserError, match='differs from its own logits by 1.0'):
        make()


@pytest.mark.parametrize(
    'classes, message',
    [
        (
            ('class0', 'class2', 'class1'),
            "class 1 is 'class2' in checkpoint '.*' and 'class1' in tiny.py",
        ),
        (('class0', 'class1'), "2 classes in checkpoint '.*', 3 in tiny.py"),
    ],
)
def test_another_class_list_is_refused(project, make, classes, message):
    write_annotator(project, classes)
    with pytest.raises(UserError, match=message + '.*as other classes'):
        make()


def test_another_number_of_classes_is_refused(project, make):
    write_annotator(project, None, ANNOTATOR.replace('num_classes=3, in', 'num_classes=4, in'))
    with pytest.raises(UserError, match="knows 4 classes, 'tiny.py' has 3"):
        make()


def test_maps_of_another_annotator_are_not_gone_on_with(project, make):
    make()
    with pytest.raises(UserError, match=r'grid=\[6, 6\] instead of \[8, 8\]'):
        make('--size', 64)
    write_annotator(project, seed=1)
    with pytest.raises(UserError, match="annotator=.*'sha256'"):
        make()


def test_sum_of_the_annotator_before_python_3_11(project, make, monkeypatch):
    monkeypatch.delattr(hashlib, 'file_digest', raising=False)
    make()
    expected = hashlib.sha256((project / 'annotator.pth').read_bytes())
    assert TokenLabelStore('maps').index['annotator']['sha256'] == (expected.hexdigest())


def test_an_annotator_in_the_web_is_refused(project, tool, monkeypatch):
    address = 'https://example.invalid/annotator.pth'
    monkeypatch.setattr(
        sys, 'argv', ['make_token_labels.py', 'annotator.py', address, *arguments()[2:]]
    )
    with pytest.raises(UserError, match=f"'{address}' is no file.*download"):
        tool.main()
    assert not (project / 'maps').exists()


def test_no_place_to_write(project, make):
    write_project(project)  # without LoadTokenLabels
    with pytest.raises(UserError, match="'tiny.py' has no .*--out"):
        make()


def test_training_on_maps_of_other_images_ends_at_once(ends_with, project, make):
    make()
    (project / 'images/class1/1.png').rename(project / 'images/class1/13.png')
    assert ends_with('train.py', 'tiny.py').startswith(
        "train.py: token labels 'maps' belong to 12 images, the data set has "
        "12: number 4 is 'class1/1.png' there and 'class1/10.png' here; "
    )
