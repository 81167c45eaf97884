"""Every fine-tuning config is loaded, built and run for a step."""

from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, default_collate
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS

from .conftest import present, read, tracked

FOLDER = 'configs/classification/finetune'
CLASSES = {
    'cifar10': 10,
    'cifar100': 100,
    'flowers102': 102,
    'stanford-cars': 196,
    'oxford-pets': 37,
}
NAMES = {
    'deit-small': 'work_dirs/tlalign_deit-small_8xb128_in1k/epoch_300.pth',
    'swin-tiny': 'work_dirs/tlalign_swin-tiny_16xb64_in1k/epoch_300.pth',
}
CASES = [(net, data, size) for net in NAMES for data in CLASSES for size in (224, 384)]


def path_of(net, data, size):
    return f'{FOLDER}/{net}_tlalign-pre_8xb96_{data}-{size}px.py'


def test_list_is_complete():
    expected = {path_of(*case) for case in CASES}
    assert set(tracked(FOLDER)) == present(FOLDER) == expected


@pytest.mark.parametrize('net, data, size', CASES)
def test_config(net, data, size):
    config = read(path_of(net, data, size))
    assert config.data_preprocessor.num_classes == CLASSES[data]
    assert config.data_preprocessor.to_rgb == ('cifar' not in data)
    assert config.model.head.num_classes == CLASSES[data]
    backbone = config.model.backbone
    assert backbone.img_size == size
    assert backbone.get('drop_path_rate', 0) == 0
    checkpoint = NAMES[net]
    if net == 'swin-tiny':
        assert backbone.get('window_size', 7) == size // 32
        if size == 384:
            stem = Path(checkpoint).parent.name
            checkpoint = f'checkpoints/{stem}_w12.pth'
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')

    training, *testing = (config[f'{phase}_dataloader'] for phase in ('train', 'val', 'test'))
    assert training.dataset.split in ('train', 'trainval')
    for loader in (training, *testing):
        assert DATASETS.get(loader.dataset.type) is not None
        assert loader.dataset.data_root == training.dataset.data_root
        decoded = loader.dataset.pipeline[0].type != 'LoadImageFromFile'
        assert decoded == ('cifar' in data)
        image = np.zeros((300, 400, 3), np.uint8)
        assert run(loader.dataset.pipeline, image)['inputs'].shape == (3, size, size)
    assert all(loader.dataset.split == 'test' for loader in testing)
    # 32 px more than the crop at 224 px, in proportion at 384 px
    (resize,) = (step.scale for step in testing[0].dataset.pipeline if step.type == 'ResizeEdge')
    assert resize == size * 256 // 224
    assert 8 * training.batch_size == config.auto_scale_lr.base_batch_size


def run(pipeline, image):
    """The steps after reading, on an image."""
    steps = [TRANSFORMS.build(step) for step in pipeline if step.type != 'LoadImageFromFile']
    return Compose(steps)(dict(img=image, gt_label=3))


@pytest.mark.parametrize(
    'net, size', [('deit-small', 224), ('deit-small', 384), ('swin-tiny', 224), ('swin-tiny', 384)]
)
def test_a_step_from_a_checkpoint(net, size, tmp_path):
    """Pretrained at 224 px; Swin's biases must already have their size."""
    config = read(path_of(net, 'flowers102', size))
    model = config.model
    model.data_preprocessor = config.data_preprocessor
    model.backbone.arch = (
        dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])
        if net == 'swin-tiny'
        else dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    )
    model.head.in_channels = 128 if net == 'swin-tiny' else 32
    pretraining = deepcopy(model.backbone)
    pretraining.init_cfg = None
    if net == 'deit-small':
        pretraining.img_size = 224
    original = MODELS.build(pretraining)
    original.init_weights()
    checkpoint = str(tmp_path / 'classifier.pth')
    torch.save(
        {f'backbone.{key}': value for key, value in original.state_dict().items()}, checkpoint
    )
    model.backbone.init_cfg.checkpoint = checkpoint

    classifier = MODELS.build(model)
    classifier.init_weights()
    for key, value in classifier.backbone.state_dict().items():
        if key != 'pos_embed' or size == 224:
            assert torch.equal(value, original.state_dict()[key]), key
    if net == 'deit-small' and size == 384:
        expected = cv2.resize(  # bicubic as PyTorch's, but near the border
            original.pos_embed[0, 1:].detach().reshape(14, 14, 32).numpy(),
            (24, 24),
            interpolation=cv2.INTER_CUBIC,
        )
        found = classifier.backbone.pos_embed[0, 1:].detach()
        np.testing.assert_allclose(
            found.reshape(24, 24, 32)[4:-4, 4:-4], expected[4:-4, 4:-4], atol=1e-5
        )
        assert torch.equal(classifier.backbone.pos_embed[:, 0], original.pos_embed[:, 0])

    optimizer = build_optim_wrapper(classifier, config.optim_wrapper)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    data = default_collate([run(config.train_dataloader.dataset.pipeline, image) for _ in range(2)])
    log = classifier.train().train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    with torch.no_grad():
        data = default_collate([run(config.test_dataloader.dataset.pipeline, image)])
        (sample,) = classifier.eval().test_step(data)
    assert sample.pred_score.shape == (102,)
