"""Every detector and segmentor is built, from the classifier that it names."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from torch import nn

from ..conftest import needs_operators
from .recipes import SPARED, cases, present, read, stem, tracked, without_storage

needs_operators()

CONFIGS = [*tracked('configs/detection'), *tracked('configs/segmentation')]
CLASSIFIERS = {stem(path): path for path in tracked('configs/classification')}


def test_list_is_complete():
    assert set(CONFIGS) == present('configs/detection') | present('configs/segmentation')
    for place, count in (('_coco', 12), ('_bccd', 2), ('ade20k', 9), ('camvid', 8), ('scenes', 2)):
        assert len([path for path in CONFIGS if place in path]) == count


@pytest.mark.parametrize('path', cases(CONFIGS))
def test_starts_from_the_named_classifier(path):
    """The weights exist after training; backbone and colours are the same."""
    config = read(path)
    backbone = config.model.backbone
    init_cfg = dict(backbone.init_cfg)
    folder, name, file = Path(init_cfg.pop('checkpoint')).parts
    assert folder == 'work_dirs' and init_cfg == dict(type='Pretrained', prefix='backbone.')
    classifier = read(CLASSIFIERS[name])
    assert file == f'epoch_{classifier.train_cfg.max_epochs}.pth'
    if 'tokenlabel' not in path:
        assert name.startswith('tlalign_') and name.replace('tlalign_', 'cutmix_') in CLASSIFIERS
    size = re.search(r'(?:deit|swin|lvvit)-(tiny|small|base|medium|large)_', stem(path))
    if size:
        assert classifier.model.backbone.arch.removeprefix('deit-') == size[1]

    original = dict(classifier.model.backbone)
    assert backbone.type.split('.')[-1] == original.pop('type').split('.')[-1]
    for key in ('out_indices', 'out_type', 'drop_path_rate'):
        original.pop(key, None)
    defaults = dict(img_size=224, patch_size=4)  # those of Swin
    assert {key: backbone.get(key, defaults.get(key)) for key in original} == original

    ours, theirs = config.model.data_preprocessor, classifier.data_preprocessor
    for key in ('mean', 'std'):
        assert list(ours[key]) == list(theirs[key])
    assert ours.bgr_to_rgb == theirs.get('to_rgb') or len({*ours.mean}) == 1  # of grey images


@pytest.mark.slow
@pytest.mark.parametrize('path', cases(CONFIGS))
def test_builds(path, load):
    config = load(path)
    model = build(config.model)
    check_optimizer(model, config.optim_wrapper)
    modules = list(model.modules())
    if 'ade20k' in path:
        assert any(isinstance(module, nn.SyncBatchNorm) for module in modules)
        assert model.num_classes == 150
    elif 'segmentation' in path:
        assert any(isinstance(module, nn.GroupNorm) for module in modules)
        assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for step in loader.dataset.pipeline:
            TRANSFORMS.build(step)
    assert [hook.type for hook in config.custom_hooks] == ['mmtlalign.ResumeRandomState']
    if '_1xb' in path:  # what bit-identical resuming needs
        assert config.train_dataloader.num_workers == 0


def shorten(backbone):
    """The same widths in two layers, or two per stage."""
    arch = backbone.arch
    arch = dict(MODELS.get(backbone.type).arch_zoo[arch] if isinstance(arch, str) else arch)
    if 'depths' in arch:
        arch['depths'] = [2] * len(arch['depths'])
    elif isinstance(backbone.get('out_indices', 0), int):
        arch['num_layers'] = 2
    backbone.arch = arch


def build(model):
    """A short one, of which there are shapes alone."""
    shorten(model.backbone)
    with without_storage():
        return MODELS.build(model)


def check_optimizer(model, optim_wrapper):
    """Rate and decay of every parameter, found from the modules: no decay of
    norms, tokens, positions and bias tables."""
    decay_rate = optim_wrapper.get('paramwise_cfg', {}).get('layer_decay_rate', 1)
    assert decay_rate == (0.7 if 'LayerDecay' in optim_wrapper.get('constructor', '') else 1)
    found = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in build_optim_wrapper(model, optim_wrapper).optimizer.param_groups
        for parameter in group['params']
    }
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, norms)
        for parameter in module.parameters()
    }
    optimizer = optim_wrapper.optimizer
    for name, parameter in model.named_parameters():
        block = re.match(r'backbone\.layers\.(\d+)\.', name)
        stem = re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name)
        above = 2 - int(block[1]) if block else 3 if stem else 0
        lr, decay = found.pop(id(parameter))
        assert lr == pytest.approx(optimizer.lr * decay_rate**above), name
        none = id(parameter) in spared or name.endswith(SPARED)
        assert decay == (0 if none else optimizer.weight_decay), name
    assert not found


def save_classifier(backbone, path):
    """Save what training the named classifier, as narrow, would leave; give
    the weights of its backbone."""
    config = read(CLASSIFIERS[Path(backbone.init_cfg.checkpoint).parts[-2]])
    model = Config(dict(model=config.model)).model
    model.backbone.arch = backbone.arch
    model.head.in_channels = backbone.arch['embed_dims'] * 2 ** (
        len(backbone.arch.get('depths', [1])) - 1
    )
    model.data_preprocessor = config.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(model)
    classifier.init_weights()
    torch.save(dict(state_dict=classifier.state_dict(), meta={}), path)
    backbone.init_cfg.checkpoint = str(path)
    return classifier.backbone.state_dict()
