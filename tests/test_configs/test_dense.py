"""Every detector and segmentor is built, from the classifier that it names."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from torch import nn

from mmtlalign.models import LVViT

from ..conftest import needs_operators
from .recipes import SPARED, cases, listed, read, stem, without_storage

needs_operators()

CONFIGS = [*listed('configs/detection'), *listed('configs/segmentation')]
CLASSIFIERS = {stem(path): path for path in listed('configs/classification')}


def test_list_is_complete():
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
    if 'detection' in path:
        check_maps(config.model, model.eval())
    else:
        check_logits(model.eval())
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


def as_list(one_or_several):
    """A cascade has lists where others have a single head or sampler."""
    several = isinstance(one_or_several, (list, nn.ModuleList))
    return one_or_several if several else [one_or_several]


def check_maps(config, model):
    """Maps and regions fit the anchors."""
    strides = config.rpn_head.anchor_generator.strides
    is_deit = 'VisionTransformer' in config.backbone.type
    patch = config.backbone.get('patch_size', 4)
    assert strides[0] == {2: 2, 4: 2 if is_deit else 4, 16: 4}[patch]
    with without_storage():
        maps = model.extract_feat(torch.randn(1, 3, 64, 128))
    assert [tuple(m.shape[2:]) for m in maps] == [
        (64 // stride, 128 // stride) for stride in strides
    ]
    extractors = as_list(model.roi_head.bbox_roi_extractor)
    if model.with_mask:
        extractors = [*extractors, *as_list(model.roi_head.mask_roi_extractor)]
    for extractor in extractors:
        used = extractor.featmap_strides
        assert used == strides[: len(used)]
        assert extractor.finest_scale == 14 * strides[0]  # 56 at stride 4


def check_logits(model):
    """Outputs of the backbone, the last of them among these, fit the heads."""
    with without_storage():
        maps = model.extract_feat(torch.randn(1, 3, 64, 64))
        for head in filter(None, (model.decode_head, getattr(model, 'auxiliary_head', None))):
            assert head(maps).shape[1] == model.num_classes
    if isinstance(model.backbone, LVViT):
        assert max(model.backbone.out_indices) == len(model.backbone.layers) - 1


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


def start_from_classifier(model, folder, unread=()):
    """Build a model from what training the classifier that it names, as narrow, would leave: all
    of its backbone's weights but some have arrived, and the norms of outputs are new."""
    backbone = model.backbone
    config = read(CLASSIFIERS[Path(backbone.init_cfg.checkpoint).parts[-2]])
    classifier = Config(dict(model=config.model)).model
    classifier.backbone.arch = backbone.arch
    stages = len(backbone.arch.get('depths', [1]))
    classifier.head.in_channels = backbone.arch['embed_dims'] * 2 ** (stages - 1)
    classifier.data_preprocessor = config.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(classifier)
    classifier.init_weights()
    backbone.init_cfg.checkpoint = str(folder / 'classifier.pth')
    torch.save(dict(state_dict=classifier.state_dict(), meta={}), backbone.init_cfg.checkpoint)
    saved = classifier.backbone.state_dict()

    built = MODELS.build(model)
    built.init_weights()
    loaded = built.backbone.state_dict()
    new = {f'norm{i}.{kind}' for i in range(stages - 1) for kind in ('weight', 'bias')}
    assert loaded.keys() - saved.keys() == new
    assert saved.keys() - loaded.keys() == set(unread)
    assert len(saved) > 20
    for key in loaded.keys() & saved.keys():
        assert torch.equal(loaded[key], saved[key]), key
    return built
