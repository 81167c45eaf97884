"""Segmentors: recipes, and those of each kind trained for a step."""

import ast
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS

from mmtlalign.commands.test import use_tta

from ..conftest import needs_operators
from .recipes import listed, read
from .test_dense import shorten, start_from_classifier

needs_operators()

CONFIGS = listed('configs/segmentation')
FOLDER = 'configs/segmentation'
ADE20K = '_upernet_8xb2-160k_ade20k-512x512'


def test_recipe_of_ade20k():
    """The published values, which are the same for all six."""
    drop_paths = {}
    for path in (path for path in CONFIGS if ADE20K in path and '/tlalign/' in path):
        config = read(path)
        optimizer = config.optim_wrapper.optimizer
        assert (optimizer.lr, optimizer.weight_decay) == (6e-5, 0.01)
        assert config.train_cfg.max_iters == 160000
        total = 8 * config.train_dataloader.batch_size
        assert total == 16 == config.auto_scale_lr.base_batch_size
        warm_up, decay = config.param_scheduler
        assert warm_up.end == decay.begin == 1500
        assert (warm_up.type, decay.type, decay.power) == ('LinearLR', 'PolyLR', 1)
        backbone = config.model.backbone
        drop_paths.setdefault(backbone.type, set()).add(backbone.drop_path_rate)
    assert drop_paths == {
        'mmpretrain.SwinTransformer': {0.3},
        'mmpretrain.VisionTransformer': {0.1},
    }


def test_names_of_minis():
    """Iterations and the size in the name are the config's."""
    minis = [path for path in CONFIGS if '-mini_' in path]
    for path in minis:
        config = read(path)
        (iterations,) = re.search(r'_1xb4-(\d+)_', path).groups()
        assert config.train_cfg.max_iters == int(iterations)
        size = re.search(r'-(\d+)x(\d+)\.py', path)
        scales = {
            tuple(step.scale)
            for loader in (config.train_dataloader, config.test_dataloader)
            for step in loader.dataset.pipeline
            if step.type == 'Resize'
        }
        assert not size or scales == {tuple(map(int, size.groups()))}
    assert len(minis) == 9


# A step and a prediction -------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    """An image of 64x48 px and its label map, with all kinds of labels."""
    rng = np.random.default_rng(0)
    image, labels = tmp_path / 'photo.jpg', tmp_path / 'photo.png'
    cv2.imwrite(str(image), cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)))
    cells = rng.integers(0, 151, (6, 8), np.uint8)
    cv2.imwrite(str(labels), np.kron(cells, np.ones((8, 8), np.uint8)))
    return dict(
        img_path=str(image), seg_map_path=str(labels), label_map=None, reduce_zero_label=True
    )


def at_size(pipeline, edge):
    """The pipeline at sizes around ``edge`` instead of 512."""
    text = re.sub(
        r'\b\d{3,4}\b',
        lambda number: str(int(number[0]) * edge // 512),
        repr(list(map(dict, pipeline))),
    )
    return ast.literal_eval(text)


def run_pipeline(pipeline, info, copies=1):
    pipeline = Compose([TRANSFORMS.build(step) for step in pipeline])
    return pseudo_collate([pipeline({**info, 'seg_fields': []}) for _ in range(copies)])


def train_step(config, model, data):
    """The log of a step, in which the first and the last layer learn."""
    optimizer = build_optim_wrapper(model.train(), config.optim_wrapper)
    learning = [
        next(p for p in model.backbone.patch_embed.parameters() if p.ndim > 1),
        model.decode_head.conv_seg.weight,
    ]
    before = [parameter.clone() for parameter in learning]
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert not any(map(torch.equal, learning, before))
    return log


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', ['tlalign-swin-tiny', 'tlalign-deit-small', 'tokenlabel-lvvit-small']
)
def test_step_and_prediction(name, load, photo, tmp_path):
    config = load(f'{FOLDER}/{name.split("-")[0]}/{name}{ADE20K}.py')
    model = config.model
    shorten(model.backbone)
    model.decode_head.channels = model.auxiliary_head.channels = 16
    model.data_preprocessor.size = (64, 64)
    if model.test_cfg.mode == 'slide':
        model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    unread = () if 'swin' in name else ('ln1.weight', 'ln1.bias')
    segmenter = start_from_classifier(model, tmp_path, unread)
    train_step(config, segmenter, run_pipeline(at_size(config.train_pipeline, 64), photo, 2))
    segmenter.eval()
    data = run_pipeline(at_size(config.test_pipeline, 64), photo)
    with torch.no_grad():
        (sample,) = segmenter.test_step(data)
    assert sample.pred_sem_seg.shape == (48, 64)
    assert sample.seg_logits.data.shape == (150, 48, 64)
    # of several sizes, each mirrored as well
    use_tta(config)
    assert config.model.module.type == 'EncoderDecoder'
    wrapped = MODELS.build(dict(config.model, module=segmenter))
    data = run_pipeline(at_size(config.test_dataloader.dataset.pipeline, 64), photo)
    heights = [images[0].shape[1] for images in data['inputs']]
    assert heights == sorted([32, 48, 64, 80, 96, 112] * 2)
    with torch.no_grad():
        (sample,) = wrapped.test_step(data)
    assert sample.pred_sem_seg.shape == (48, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    'net, crop',
    [
        ('swin-mini_upernet_1xb4-600_camvid-240x180', (120, 160)),
        ('deit-mini_upernet_1xb4-600_camvid-120x90', (88, 120)),
    ],
)
def test_arms_of_cutmix(net, crop, load, photo):
    """Each is trained for a step."""
    photo['reduce_zero_label'] = False
    labels = cv2.imread(photo['seg_map_path'], cv2.IMREAD_UNCHANGED) % 12
    cv2.imwrite(photo['seg_map_path'], np.where(labels == 11, 255, labels))
    for arm in ('none', 'cutmix', 'aligned-cutmix'):
        config = load(f'{FOLDER}/cutmix/{arm}_{net}.py')
        config.model.backbone.init_cfg = None
        model = MODELS.build(config.model)
        if arm != 'none':
            model.data_preprocessor.mixing.probs = [1.0]
        for loader in (config.train_dataloader, config.val_dataloader):
            for step in loader.dataset.pipeline:
                if step.type == 'Resize':
                    step.scale = (64, 48)
                if step.type == 'RandomCrop':
                    assert step.crop_size == crop
                    step.crop_size = (32, 48)
        data = run_pipeline(config.train_dataloader.dataset.pipeline, photo, 2)
        log = train_step(config, model, data)
        assert ('aligned_share' in log) == (arm == 'aligned-cutmix')
        data = run_pipeline(config.val_dataloader.dataset.pipeline, photo)
        with torch.no_grad():
            (sample,) = model.eval().val_step(data)
        assert sample.pred_sem_seg.shape == (48, 64)
