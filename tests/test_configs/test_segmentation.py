"""Every segmentation config is loaded and built, and some are run."""

import ast
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmtlalign.commands.test import use_tta
from mmtlalign.errors import UserError

from ..conftest import needs_operators
from .conftest import check_dense_optimizer, present, read, stem, tracked

needs_operators()

from mmseg.registry import DATASETS, MODELS, TRANSFORMS  # noqa: E402

CLASSIFIERS = 'configs/classification/tlalign'
FOLDER = 'configs/segmentation/tlalign'
CONFIGS = tracked(FOLDER)
ADE20K = [path for path in CONFIGS if 'ade20k' in path]
MINIS = [path for path in CONFIGS if '-mini_' in path]


def test_lists_are_complete():
    assert set(CONFIGS) == present(FOLDER) == {*ADE20K, *MINIS}
    backbones = [re.search('tlalign-([a-z]+-[a-z]+)_', p)[1] for p in ADE20K]
    assert sorted(backbones) == [
        f'{family}-{size}' for family in ('deit', 'swin') for size in ('base', 'small', 'tiny')
    ]
    assert len(MINIS) == 3


def classifier_of(backbone):
    """Config that trains a backbone's checkpoint, and the file's name."""
    folder, file = Path(backbone.init_cfg.checkpoint).parts[-2:]
    return read(f'{CLASSIFIERS}/{folder}.py'), file


def short(backbone, arch_zoo):
    """The same widths in two layers per stage, or as few as outputs need."""
    arch = backbone.arch
    arch = dict(arch_zoo[arch] if isinstance(arch, str) else arch)
    if 'depths' in arch:
        arch['depths'] = [2] * len(arch['depths'])
    return arch


def names(modules, kind):
    return [name for name, module in modules if isinstance(module, kind)]


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_starts_from_the_named_classifier(path, load):
    """The weights exist after training, and their backbone is the same."""
    backbone = load(path).model.backbone
    init_cfg = dict(backbone.pop('init_cfg'))
    checkpoint = init_cfg.pop('checkpoint')
    assert init_cfg == dict(type='Pretrained', prefix='backbone.')
    assert checkpoint.startswith('work_dirs/tlalign_')
    backbone.init_cfg = dict(checkpoint=checkpoint)
    classifier, file = classifier_of(backbone)
    assert file == f'epoch_{classifier.train_cfg.max_epochs}.pth'
    twin = Path(checkpoint.replace('tlalign_', 'cutmix_')).parent.name
    assert f'{CLASSIFIERS}/{twin}.py' in tracked(CLASSIFIERS)
    original = classifier.model.backbone
    assert backbone.type == f'mmpretrain.{original.type}'
    defaults = dict(img_size=224)
    for key in ('arch', 'patch_size', 'window_size', 'img_size'):
        found, expected = (cfg.get(key, defaults.get(key)) for cfg in (backbone, original))
        if key == 'patch_size' and 'Swin' in original.type:
            found, expected = found or 4, expected or 4
        assert found == expected, key


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_is_normalised_as_in_pretraining(path, load):
    config = load(path)
    found = config.model.data_preprocessor
    expected = classifier_of(config.model.backbone)[0].data_preprocessor
    assert found.bgr_to_rgb
    for key in ('mean', 'std'):
        assert list(found[key]) == list(expected[key])


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_builds(path, load):
    config = load(path)
    backbone = config.model.backbone
    cls = MODELS.get(backbone.type)
    backbone.arch = short(backbone, cls.arch_zoo)
    with torch.random.fork_rng():
        model = MODELS.build(config.model)
    modules = list(model.named_modules())
    if 'ade20k' in path:
        assert names(modules, nn.SyncBatchNorm)
        assert model.num_classes == 150
    else:
        assert names(modules, nn.GroupNorm)
        assert not names(modules, nn.modules.batchnorm._BatchNorm)
        assert config.train_dataloader.num_workers == 0
    check_dense_optimizer(model, config.optim_wrapper)
    # the host's types of what is not part of the model
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
        for step in loader.dataset.pipeline:
            assert TRANSFORMS.get(step.type) is not None
    assert [hook.type for hook in config.custom_hooks] == ['mmtlalign.ResumeRandomState']


def test_recipe_of_ade20k(load):
    """The published values, which are the same for all six."""
    drop_paths = {}
    for path in ADE20K:
        config = load(path)
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


@pytest.mark.parametrize('path', MINIS, ids=stem)
def test_names_of_minis(path, load):
    """{batch}-{iterations} and the size in the name are the config's."""
    config = load(path)
    batch, iterations = re.search(r'_1xb(\d+)-(\d+)_', path).groups()
    assert config.train_dataloader.batch_size == int(batch)
    assert config.train_cfg.max_iters == int(iterations)
    size = re.search(r'-(\d+)x(\d+)\.py', path)
    if size:
        scales = {
            tuple(step.scale)
            for loader in (config.train_dataloader, config.test_dataloader)
            for step in loader.dataset.pipeline
            if step.type == 'Resize'
        }
        assert scales == {tuple(map(int, size.groups()))}


# A step and a prediction -------------------------------------------------

SMALL = {
    'swin-tiny': dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8]),
    'deit-small': dict(embed_dims=32, num_layers=12, num_heads=2, feedforward_channels=64),
}


def shrink(model, arch):
    """Make a segmenter narrow, without changing what it is made of."""
    model.backbone.arch = arch
    widths = [arch['embed_dims']] * 4
    if 'depths' in arch:
        widths = [width * 2**i for i, width in enumerate(widths)]
    else:
        model.neck.embed_dim = widths[0]
    model.decode_head.update(in_channels=widths, channels=16)
    model.auxiliary_head.update(in_channels=widths[2], channels=16)


@pytest.fixture
def photo(tmp_path):
    """An image of 64x48 px and its label map, with all kinds of labels."""
    rng = np.random.default_rng(0)
    image, labels = tmp_path / 'photo.jpg', tmp_path / 'photo.png'
    cv2.imwrite(str(image), cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)))
    cv2.imwrite(
        str(labels), np.repeat(np.repeat(rng.integers(0, 151, (6, 8), np.uint8), 8, 0), 8, 1)
    )
    return dict(
        img_path=str(image),
        seg_map_path=str(labels),
        label_map=None,
        reduce_zero_label=True,
        seg_fields=[],
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


@pytest.fixture
def save_classifier(tmp_path):
    """Save what training a narrow version of a classifier would leave."""

    def save(config, arch):
        classifier = Config(dict(model=config.model))
        classifier.model.backbone.arch = arch
        classifier.model.head.in_channels = arch['embed_dims'] * (8 if 'depths' in arch else 1)
        classifier.model.data_preprocessor = config.data_preprocessor
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(classifier.model)
        model.init_weights()
        path = str(tmp_path / 'classifier.pth')
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        return path, model.backbone.state_dict()

    return save


@pytest.mark.parametrize('name', ['swin-tiny', 'deit-small'])
def test_step_and_prediction(name, load, photo, save_classifier):
    (path,) = [path for path in ADE20K if f'-{name}_' in path]
    config, arch = load(path), SMALL[name]
    model = config.model
    shrink(model, arch)
    model.data_preprocessor.size = (64, 64)
    if model.test_cfg.mode == 'slide':
        model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    checkpoint, saved = save_classifier(classifier_of(model.backbone)[0], arch)
    model.backbone.init_cfg.checkpoint = checkpoint

    segmenter = MODELS.build(model)
    segmenter.init_weights()
    loaded = segmenter.backbone.state_dict()
    new = {key for key in loaded if key not in saved}
    assert new == (
        {f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}
        if 'depths' in arch
        else set()
    )
    assert len(loaded) > 50
    for key in loaded.keys() - new:
        assert torch.equal(loaded[key], saved[key]), key
    assert saved.keys() - loaded.keys() == (
        set() if 'depths' in arch else {'ln1.weight', 'ln1.bias'}
    )

    before = {key: value.clone() for key, value in loaded.items()}
    optimizer = build_optim_wrapper(segmenter, config.optim_wrapper)
    data = run_pipeline(at_size(config.train_pipeline, 64), photo, copies=2)
    log = segmenter.train().train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    key = 'patch_embed.projection.weight'
    assert not torch.equal(segmenter.backbone.state_dict()[key], before[key])

    segmenter.eval()
    data = run_pipeline(at_size(config.test_pipeline, 64), photo)
    with torch.no_grad():
        (sample,) = segmenter.test_step(data)
    assert sample.pred_sem_seg.shape == (48, 64)
    assert sample.seg_logits.data.shape == (150, 48, 64)

    check_multi_scale(config, segmenter, photo)


def test_multi_scale_test_needs_a_config_that_has_it(load):
    with pytest.raises(UserError, match='--tta needs tta_model in the config'):
        use_tta(load(MINIS[0]))


def check_multi_scale(config, segmenter, photo):
    """It is the mean over sizes and mirror images of the probabilities."""
    use_tta(config)
    assert config.model.module.type == 'EncoderDecoder'
    pipeline = at_size(config.test_dataloader.dataset.pipeline, 64)
    wrapped = MODELS.build(dict(config.model, module=segmenter))
    data = run_pipeline(pipeline, photo)
    heights = [tuple(images[0].shape[1:]) for images in data['inputs']]
    assert len(heights) == 12 and heights[::2] == heights[1::2]
    assert [height for height, _ in heights[::2]] == [32, 48, 64, 80, 96, 112]
    with torch.no_grad():
        (sample,) = wrapped.test_step(data)
        expected = sum(
            segmenter.test_step(dict(inputs=inputs, data_samples=samples))[
                0
            ].seg_logits.data.softmax(0)
            for inputs, samples in zip(data['inputs'], data['data_samples'])
        )
    agree = sample.pred_sem_seg.data == expected.argmax(0)
    assert agree.float().mean() > 0.999
