"""A red image is red to every model, wherever it comes from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

from mmtlalign.apis.channel_order import channel_order, for_files, in_order, trained_order
from mmtlalign.commands.checks import check_data
from mmtlalign.datasets import SwapChannels
from mmtlalign.errors import UserError
from mmtlalign.resources import ROOT, list_configs

from ..conftest import needs_operators

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
SWAP = dict(type='mmtlalign.SwapChannels')
CONFIGS = sorted(
    Path(path).relative_to(ROOT / 'configs').as_posix() for path in list_configs().values()
)
IN_MEMORY = [
    path
    for path in CONFIGS
    if path.endswith('_digits.py') or '_cifar' in path and path.endswith('px.py')
]


def test_every_family_is_there():
    assert {path.rpartition('/')[0] for path in CONFIGS} == {
        'classification/contribution',
        'classification/finetune',
        'classification/lacvit',
        'classification/mixing',
        'classification/mixpro',
        'classification/planted',
        'classification/tlalign',
        'classification/tlalign-tokens',
        'classification/tokenlabel',
        'classification/tokenmix',
        'classification/transmix',
        'detection/tlalign',
        'segmentation/cutmix',
        'segmentation/tlalign',
        'segmentation/tokenlabel',
    }
    assert len(IN_MEMORY) > 28


@pytest.fixture(scope='module')
def red(tmp_path_factory):
    """A file and its RGB array."""
    path = tmp_path_factory.mktemp('red') / 'red.png'
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 0] = 255
    cv2.imwrite(str(path), image[..., ::-1])
    return str(path), image


def seen(cfg, steps, **image):
    """Colour, RGB as mean and standard deviation are, that a backbone gets."""
    pipeline = Compose(
        [
            TRANSFORMS.build(step)
            for step in steps
            if not step['type'].startswith(('LoadAnnotations', 'Pack'))
        ]
    )
    loaded = pipeline(dict(image, gt_label=0))['img']
    packed = torch.from_numpy(loaded).permute(2, 0, 1)
    preprocess = dict(cfg.get('data_preprocessor') or cfg.model.data_preprocessor)
    for key in ('size', 'batch_augments'):
        preprocess.pop(key, None)
    preprocess.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    preprocess = MODELS.build(preprocess)
    inputs = preprocess(dict(inputs=[packed], data_samples=None))['inputs']
    return (inputs * preprocess.std + preprocess.mean)[0, :, :100, :100].mean((1, 2)).tolist()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: Path(path).stem)
def test_a_red_file_is_red_to_the_backbone_of_every_config(path, red):
    if not path.startswith('classification'):
        needs_operators()
    cfg = Config.fromfile(ROOT / 'configs' / path)
    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope):
        steps = for_files(cfg).test_dataloader.dataset.pipeline
        assert seen(cfg, steps, img_path=red[0]) == pytest.approx([255, 0, 0], abs=0.5)


@pytest.mark.parametrize('path', IN_MEMORY, ids=lambda path: Path(path).stem)
def test_a_red_array_is_the_same_to_configs_of_data_in_memory(path, red):
    cfg = Config.fromfile(ROOT / 'configs' / path)
    steps = cfg.test_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert seen(cfg, steps, img=red[1]) == pytest.approx([255, 0, 0], abs=0.5)


TO_PIL = dict(type='NumpyToPIL', to_rgb=True)
TO_NUMPY = dict(type='PILToNumpy', to_bgr=True)


@pytest.mark.parametrize(
    'steps, order',
    [
        ([PACK], 'rgb'),
        ([LOAD, PACK], 'bgr'),
        ([LOAD, SWAP, PACK], 'rgb'),
        ([dict(type='mmcv.LoadImageFromFile')], 'bgr'),
        ([LOAD, TO_PIL], 'rgb'),
        ([LOAD, TO_PIL, TO_NUMPY, PACK], 'bgr'),
        ([TO_PIL, TO_NUMPY], 'rgb'),
        ([dict(TO_PIL, to_rgb=False)], 'rgb'),
        ([dict(type=SwapChannels)], 'bgr'),
    ],
)
def test_order_of_a_pipeline(steps, order, red):
    """Against a red image that goes through it."""
    other = 'bgr' if order == 'rgb' else 'rgb'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert channel_order(steps) == order
        results = Compose([TRANSFORMS.build(step) for step in steps])(
            dict(img_path=red[0], img=red[1])
        )
        image = results['inputs'].permute(1, 2, 0) if 'inputs' in results else results['img']
        assert np.asarray(image)[0, 0].tolist() == ([255, 0, 0] if order == 'rgb' else [0, 0, 255])
        assert in_order(steps, order) is steps
        assert channel_order(in_order(steps, other)) == other


def config(train, test=None, **more):
    def loader(steps):
        return dict(dataset=dict(type='CustomDataset', data_root='', pipeline=steps))

    return Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=loader(train),
            test_dataloader=loader(test or train),
            train_cfg=dict(),
            test_cfg=dict(),
            **more,
        )
    )


def test_order_that_a_model_was_trained_on():
    assert trained_order(config([PACK])) == 'rgb'
    assert trained_order(config([LOAD, PACK], [PACK])) == 'bgr'
    assert trained_order(Config(dict(model=dict()))) == 'bgr'
    wrapped = config([LOAD, PACK])
    wrapped.train_dataloader.dataset = dict(
        type='RepeatDataset',
        dataset=dict(type='ConcatDataset', datasets=[wrapped.train_dataloader.dataset]),
    )
    assert trained_order(wrapped) == 'bgr'
    wrapped.train_dataloader.dataset.pipeline = [PACK]  # of all its images
    assert trained_order(wrapped) == 'bgr'


@pytest.mark.parametrize(
    'train, test, expected',
    [
        ([PACK], [PACK], [LOAD, SWAP, PACK]),
        ([PACK], [LOAD, PACK], [LOAD, SWAP, PACK]),
        ([LOAD, PACK], [PACK], [LOAD, PACK]),
        ([LOAD, SWAP, PACK], [LOAD, PACK], [LOAD, SWAP, PACK]),
        ([LOAD, PACK], [dict(type='mmtlalign.LoadAnnotatedImage'), PACK], [LOAD, PACK]),
    ],
)
def test_a_pipeline_for_files(train, test, expected):
    cfg = config(train, test)
    changed = for_files(cfg)
    assert changed.test_dataloader.dataset.pipeline == expected
    assert cfg.test_dataloader.dataset.pipeline == test  # left as it was
    assert for_files(changed) is changed
    sound = config([LOAD, PACK])
    assert for_files(sound) is sound


def test_swapped_channels_are_reversed_and_grey_images_are_not():
    image = np.random.randint(0, 256, (4, 5, 3), np.uint8)
    swapped = SwapChannels()(dict(img=image))['img']
    for i in range(3):
        np.testing.assert_array_equal(swapped[..., i], image[..., 2 - i])
    assert swapped.flags.c_contiguous
    grey = SwapChannels()(dict(img=image[..., 0]))['img']
    np.testing.assert_array_equal(grey, image[..., 0])


def test_data_of_another_order_than_the_training_are_refused(tmp_path):
    for name in ('bird', 'fish'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.zeros((4, 4, 3)))
    cfg = config([PACK], [LOAD, PACK])
    for phase in ('train', 'test'):
        cfg[f'{phase}_dataloader'].dataset.data_root = str(tmp_path)
    with pytest.raises(UserError) as refused:
        check_data(cfg, 'test')
    said = str(refused.value)
    assert said.startswith(
        'test_dataloader.dataset.pipeline gives images as BGR, and train_dataloader as RGB'
    )
    assert "dict(type='mmtlalign.SwapChannels')" in said
    cfg.test_dataloader.dataset.pipeline.insert(1, SWAP)
    check_data(cfg, 'test')
