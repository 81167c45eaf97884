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
CONFIGS = {  # one of each folder and data set, with its image size
    (path.parent, path.stem.rpartition('_')[2]): path
    for path in (Path(path).relative_to(ROOT / 'configs') for path in list_configs().values())
}
assert len(CONFIGS) > 50


@pytest.fixture(scope='module')
def red(tmp_path_factory):
    """A file and its RGB array."""
    path = tmp_path_factory.mktemp('red') / 'red.png'
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 0] = 255
    cv2.imwrite(str(path), image[..., ::-1])
    return str(path), image


def pipeline_of(steps):
    return Compose([TRANSFORMS.build(step) for step in steps])


def seen(cfg, steps, **image):
    """Colour, RGB as mean and standard deviation are, that a backbone gets."""
    steps = [step for step in steps if not step['type'].startswith(('LoadAnnotations', 'Pack'))]
    loaded = pipeline_of(steps)(dict(image, gt_label=0))['img']
    preprocess = dict(cfg.get('data_preprocessor') or cfg.model.data_preprocessor)
    for key in ('size', 'batch_augments'):
        preprocess.pop(key, None)
    preprocess = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **preprocess})
    packed = torch.from_numpy(loaded).permute(2, 0, 1)
    inputs = preprocess(dict(inputs=[packed], data_samples=None))['inputs']
    return (inputs * preprocess.std + preprocess.mean)[0, :, :100, :100].mean((1, 2)).tolist()


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS.values(), ids=lambda path: path.stem)
def test_red_is_red_to_the_backbone_of_a_config(path, red):
    """A file, and an array where the data are in memory."""
    if path.parts[0] != 'classification':
        needs_operators()
    cfg = Config.fromfile(ROOT / 'configs' / path)
    cases = [(for_files(cfg), dict(img_path=red[0]))]
    if path.stem.endswith('_digits') or '_cifar' in path.stem and path.stem.endswith('px'):
        cases.append((cfg, dict(img=red[1])))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        for case, image in cases:
            steps = case.test_dataloader.dataset.pipeline
            assert seen(cfg, steps, **image) == pytest.approx([255, 0, 0], abs=0.5)


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
        results = pipeline_of(steps)(dict(img_path=red[0], img=red[1]))
        image = results['inputs'].permute(1, 2, 0) if 'inputs' in results else results['img']
        assert np.asarray(image)[0, 0].tolist() == ([255, 0, 0] if order == 'rgb' else [0, 0, 255])
        assert in_order(steps, order) is steps
        assert channel_order(in_order(steps, other)) == other


def config(train, test=None, root=''):
    train, test = (
        dict(dataset=dict(type='CustomDataset', data_root=str(root), pipeline=steps))
        for steps in (train, test or train)
    )
    loaders = dict(train_dataloader=train, test_dataloader=test)
    return Config(dict(loaders, default_scope='mmpretrain', train_cfg={}, test_cfg={}))


def test_order_that_a_model_was_trained_on():
    assert trained_order(config([PACK])) == 'rgb'
    assert trained_order(config([LOAD, PACK], [PACK])) == 'bgr'
    assert trained_order(Config(dict(model=dict()))) == 'bgr'
    wrapped = config([LOAD, PACK])
    inner = dict(type='ConcatDataset', datasets=[wrapped.train_dataloader.dataset])
    wrapped.train_dataloader.dataset = dict(type='RepeatDataset', dataset=inner)
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


def test_grey_images_have_no_channels_to_swap():
    grey = np.random.randint(0, 256, (4, 5), np.uint8)
    np.testing.assert_array_equal(SwapChannels()(dict(img=grey))['img'], grey)


def test_data_of_another_order_than_the_training_are_refused(tmp_path):
    for name in ('bird', 'fish'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.zeros((4, 4, 3)))
    cfg = config([PACK], [LOAD, PACK], tmp_path)
    message = (
        '^test_dataloader.dataset.pipeline gives images as BGR, and train_dataloader as RGB'
        r".*dict\(type='mmtlalign.SwapChannels'\)"
    )
    with pytest.raises(UserError, match=message):
        check_data(cfg, 'test')
    cfg.test_dataloader.dataset.pipeline.insert(1, SWAP)
    check_data(cfg, 'test')
