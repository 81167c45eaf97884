"""Segmentors: recipes, and those of each kind trained for a step."""

import ast
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.structures import PixelData

from mmtlalign.commands.test import use_tta
from mmtlalign.errors import UserError
from mmtlalign.models import LVViT

from ..conftest import needs_operators
from .recipes import read, tracked
from .test_dense import CLASSIFIERS, save_classifier, shorten

needs_operators()

CONFIGS = tracked('configs/segmentation')
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
@pytest.mark.parametrize('name', ['swin-tiny', 'deit-small'])
def test_step_and_prediction(name, load, photo, tmp_path):
    config = load(f'{FOLDER}/tlalign/tlalign-{name}{ADE20K}.py')
    model = config.model
    shorten(model.backbone)
    model.decode_head.channels = model.auxiliary_head.channels = 16
    model.data_preprocessor.size = (64, 64)
    if model.test_cfg.mode == 'slide':
        model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    saved = save_classifier(model.backbone, tmp_path / 'classifier.pth')

    segmenter = MODELS.build(model)
    segmenter.init_weights()
    loaded = segmenter.backbone.state_dict()
    is_swin = 'swin' in name
    new = {f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}
    assert loaded.keys() - saved.keys() == (new if is_swin else set())
    assert saved.keys() - loaded.keys() == (set() if is_swin else {'ln1.weight', 'ln1.bias'})
    assert len(loaded) > 50
    for key in loaded.keys() & saved.keys():
        assert torch.equal(loaded[key], saved[key]), key

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


def test_multi_scale_test_needs_a_config_that_has_it(load):
    config = load(f'{FOLDER}/tlalign/tlalign-deit-mini_upernet_1xb4-600_camvid-120x90.py')
    with pytest.raises(UserError, match='--tta needs tta_model in the config'):
        use_tta(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    'net, crop',
    [
        ('swin-mini_upernet_1xb4-600_camvid-240x180', (120, 160)),
        ('deit-mini_upernet_1xb4-600_camvid-120x90', (88, 120)),
    ],
)
def test_arms_of_cutmix(net, crop, load, photo):
    """They start alike, see the same boxes, and each is trained for a step."""
    states, boxes = [], []
    photo['reduce_zero_label'] = False
    labels = cv2.imread(photo['seg_map_path'], cv2.IMREAD_UNCHANGED) % 12
    cv2.imwrite(photo['seg_map_path'], np.where(labels == 11, 255, labels))
    for arm in ('none', 'cutmix', 'aligned-cutmix'):
        config = load(f'{FOLDER}/cutmix/{arm}_{net}.py')
        config.model.backbone.init_cfg = None
        torch.manual_seed(3)
        model = MODELS.build(config.model)
        model.init_weights()
        states.append({key: value.clone() for key, value in model.state_dict().items()})
        if arm != 'none':
            mixing = model.data_preprocessor.mixing
            mixing.seed(5)
            boxes.append([mixing.draw(torch.zeros(4, 3, 88, 120)).token_share for _ in range(4)])
            mixing.probs = [1.0]
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
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)
    torch.testing.assert_close(*boxes, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize('size', ['small', 'medium', 'large'])
def test_segmentors_of_lv_vit(size, load):
    """Trained for a step at few layers, with the outputs' true numbers."""
    from mmseg.structures import SegDataSample

    config = load(f'{FOLDER}/tokenlabel/tokenlabel-lvvit-{size}{ADE20K}.py')
    backbone = config.model.backbone
    classifier = read(CLASSIFIERS[Path(backbone.pop('init_cfg').checkpoint).parts[1]])
    assert classifier.model.backbone.img_size == backbone.img_size
    assert max(backbone.out_indices) == LVViT.arch_zoo[backbone.arch]['num_layers'] - 1
    # four layers, each of which is an output
    backbone.arch = {**LVViT.arch_zoo[backbone.arch], 'num_layers': 4, 'stem_channels': 8}
    backbone.out_indices = (0, 1, 2, 3)
    for part in ('decode_head', 'auxiliary_head', 'neck'):
        config.model[part].norm_cfg = dict(type='BN')
    model = MODELS.build(config.model)
    labels = PixelData(data=torch.randint(0, 150, (1, 64, 64)))
    samples = [SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=(64, 64)))] * 2
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.patch_embed.stem[0].weight.grad.abs().max() > 0
