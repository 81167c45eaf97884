"""Fine-tuning: a recipe per backbone and size, on the classes of each data set."""

from pathlib import Path

import pytest
from mmpretrain.registry import DATASETS

from .recipes import present, read, tracked

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


@pytest.mark.slow
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
    assert all(loader.dataset.split == 'test' for loader in testing)
    # 32 px more than the crop at 224 px, in proportion at 384 px
    (resize,) = (step.scale for step in testing[0].dataset.pipeline if step.type == 'ResizeEdge')
    assert resize == size * 256 // 224
    assert 8 * training.batch_size == config.auto_scale_lr.base_batch_size
