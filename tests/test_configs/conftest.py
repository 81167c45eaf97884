"""How the tests of configs list, read, build and feed them."""

import os
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmpretrain.utils import register_all_modules
from torch import nn

from mmtlalign.datasets import TokenLabelStore

from ..conftest import ROOT, needs_operators

# What is learnt per token or position, and does not decay
SPARED = ('cls_token', 'pos_embed', 'relative_position_bias_table')


# Lists ---------------------------------------------------------------------


def tracked(folder):
    """Configs in a folder that git knows of."""
    listed = subprocess.run(
        ['git', 'ls-files', '--', f'{folder}/*.py'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [path for path in listed if '/_base_/' not in path]


def present(folder):
    """Configs in a folder, known or not."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*.py')
        if '_base_' not in path.parts
    }


def stem(path):
    return Path(path).stem


def is_large(path):
    return 'in1k' in stem(path) or stem(path).endswith('px')


def cases(paths):
    """Parameters of a test that trains; those of large images are slow."""
    return [
        pytest.param(path, id=stem(path), marks=pytest.mark.slow if is_large(path) else ())
        for path in paths
    ]


# Reading -------------------------------------------------------------------


@cache
def _read_once(path):
    return Config.fromfile(ROOT / path)


def read(path):
    """A config of one's own; following all its bases takes a while."""
    return deepcopy(_read_once(os.path.relpath(ROOT / path, ROOT)))


@pytest.fixture
def load():
    """Read a config and stay in the scope it names, as the tools do."""
    scopes = []

    def load_config(path):
        config = read(path)
        context = DefaultScope.overwrite_default_scope(config.default_scope)
        context.__enter__()
        scopes.append(context)
        return config

    register_all_modules(init_default_scope=False)
    yield load_config
    for context in reversed(scopes):
        context.__exit__(None, None, None)


# A step --------------------------------------------------------------------


@pytest.fixture(scope='session')
def jpegs(tmp_path_factory):
    """A folder of photograph-like JPEGs, 300x260 and 32x32 pixels, each with
    a store of its token labels."""
    folder = tmp_path_factory.mktemp('jpegs')
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name, size, classes in (('large', (260, 300), 1000), ('small', (32, 32), 10)):
        cv2.imwrite(str(folder / f'{name}.jpg'), cv2.resize(coarse, size))
        store = TokenLabelStore.create(
            str(folder / name), [f'{name}.jpg'], [str(i) for i in range(classes)], (8, 8), 5
        )
        ids = np.random.default_rng(1).permuted(np.tile(np.arange(classes), (1, 8, 8, 1)), axis=-1)[
            ..., :5
        ]
        store.write(np.array([0]), ids, np.full(ids.shape, 0.15))
    return folder


def run_pipeline(loader, jpegs, labels):
    """A batch of one JPEG, through the loader's own pipeline."""
    name = 'large' if loader.dataset.type == 'ImageNet' else 'small'
    steps = [
        {**step, 'store': str(jpegs / name)} if step.type == 'mmtlalign.LoadTokenLabels' else step
        for step in loader.dataset.pipeline
    ]
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    path = str(jpegs / f'{name}.jpg')
    reads_files = steps[0]['type'] == 'LoadImageFromFile'
    image = dict(img_path=path, sample_idx=0) if reads_files else dict(img=cv2.imread(path))
    return default_collate([pipeline(dict(**image, gt_label=label)) for label in labels])


def cut_depth(backbone):
    """Two layers, or one or two per stage, of the same width, all of which
    learn: the minis keep their stochastic depth."""
    layers = backbone.get('num_layers')
    if layers is not None:  # PVT, T2T-ViT
        backbone.num_layers = [1] * len(layers) if isinstance(layers, (list, tuple)) else 2
    named = isinstance(backbone.get('arch'), str)
    if 'drop_path_rate' in backbone and (named or layers is not None):
        backbone.drop_path_rate = 0.0
    if not named:
        return
    arch = dict(MODELS.get(backbone.type).arch_zoo[backbone.arch])
    if 'depths' in arch:
        arch['depths'] = [2, *[1] * (len(arch['depths']) - 1)]
    else:
        arch['num_layers'] = 2
    if 'stem_channels' in arch:
        arch['stem_channels'] = 8
    backbone.arch = arch


def build_model(config):
    """A classifier of few layers: it is then quick to build and to train."""
    model = config.model
    if model.backbone.type.startswith('mmdet.'):
        needs_operators()
    model.data_preprocessor = config.data_preprocessor
    cut_depth(model.backbone)
    return MODELS.build(model)


def run_for_one_step(config, model, jpegs):
    """Train a model on two images and test it on one.

    Returns the log, and whether each parameter has changed.
    """
    optimizer = build_optim_wrapper(model.train(), config.optim_wrapper)
    check_weight_decay(model, optimizer.optimizer)
    before = {name: p.clone() for name, p in model.named_parameters()}
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    changed = {name: not torch.equal(p, before[name]) for name, p in model.named_parameters()}

    data = run_pipeline(config.val_dataloader, jpegs, labels=[3])
    with torch.no_grad():
        (sample,) = model.eval().val_step(data)
    assert sample.pred_score.shape == (config.data_preprocessor.num_classes,)
    assert sample.pred_score.sum() == pytest.approx(1, abs=1e-4)
    return log, changed


def check_weight_decay(model, optimizer):
    """Matrices and kernels decay; vectors, tokens and positions do not."""
    decays = {
        id(parameter): group['weight_decay']
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith('head.aux_head'), name  # of no weight
            continue
        decays_expected = parameter.ndim > 1 and not name.endswith(SPARED)
        assert (decays[id(parameter)] > 0) == decays_expected, name


def check_dense_optimizer(model, optim_wrapper, scale=lambda name: 1):
    """Rate, times a scale, and decay of every parameter of a detector or
    segmentor: none of norms, tokens, positions and bias tables."""
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
        lr, decay = found.pop(id(parameter))
        assert lr == pytest.approx(optimizer.lr * scale(name)), name
        none = id(parameter) in spared or name.endswith(SPARED)
        assert decay == (0 if none else optimizer.weight_decay), name
    assert not found


def learning_rates(config, epoch_length=4):
    """Learning rate of every iteration of a run with short epochs."""
    optim = config.optim_wrapper.optimizer
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=optim.lr)
    schedulers = []
    for schedule in config.param_scheduler:
        schedule = dict(schedule)
        schedule.pop('_scope_', None)
        schedule.setdefault('end', config.train_cfg.max_epochs)
        cls = PARAM_SCHEDULERS.get(schedule.pop('type'))
        if schedule.pop('convert_to_iter_based', False):
            schedulers.append(
                cls.build_iter_from_epoch(optimizer, **schedule, epoch_length=epoch_length)
            )
        else:
            schedulers.append(cls(optimizer, **schedule))
    rates = []
    for i in range(config.train_cfg.max_epochs * epoch_length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (i + 1) % epoch_length == 0:
                scheduler.step()
    return rates
