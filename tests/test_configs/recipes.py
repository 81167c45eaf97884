"""How the tests of configs list, read, build and feed them."""

import os
import subprocess
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS

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


def cases(paths):
    """Parameters of a test; what is not for one device is slow."""
    return [
        pytest.param(path, id=stem(path), marks=() if is_mini(path) else pytest.mark.slow)
        for path in paths
    ]


def is_mini(path):
    return '_1xb' in path and ('-mini' in path or 'digits' in path)


# Reading -------------------------------------------------------------------


@cache
def _read_once(path):
    return Config.fromfile(ROOT / path)


def read(path):
    """A config of one's own; following all its bases takes a while."""
    return deepcopy(_read_once(os.path.relpath(ROOT / path, ROOT)))


def changes(ours, base, place=''):
    """What is said anew in a config, by its place; None where it is not said."""
    found = {}
    for key in ours.keys() | base.keys():
        one, other = ours.get(key), base.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found.update(changes(one, other, f'{place}{key}.'))
        elif one != other:
            found[place + key] = one
    return found


# A step --------------------------------------------------------------------


def write_jpegs(folder):
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


def shrink(model):
    """Two layers, or one or two per stage, eight channels a head where the
    architecture is named, all of which learn: the minis keep their size and
    their stochastic depth."""
    backbone = model.backbone
    layers = backbone.get('num_layers')
    if layers is not None:  # PVT, T2T-ViT
        backbone.num_layers = [1] * len(layers) if isinstance(layers, (list, tuple)) else 2
    named = isinstance(backbone.get('arch'), str)
    if 'drop_path_rate' in backbone and (named or layers is not None):
        backbone.drop_path_rate = 0.0
    if not named:
        return
    arch = dict(MODELS.get(backbone.type).arch_zoo[backbone.arch])
    depths, heads, width = (arch.get(key) for key in ('depths', 'num_heads', 'embed_dims'))
    if isinstance(width, int):  # Twins has several
        growth = 2 ** (len(depths) - 1) if depths else 1
        reader = model.get('head') or model.neck
        assert reader.in_channels == width * growth
        arch['embed_dims'] = 8 * (heads[0] if depths else heads)
        reader.in_channels = arch['embed_dims'] * growth
    if depths:
        arch['depths'] = [2, *[1] * (len(depths) - 1)]
    else:
        arch['num_layers'] = 2
    for key, size in (('stem_channels', 8), ('feedforward_channels', 64)):
        if isinstance(arch.get(key), int):
            arch[key] = size
    if backbone.get('frozen_stages', -1) > 0:
        backbone.frozen_stages = 2
    backbone.arch = arch


def build_model(config):
    """A small classifier: it is then quick to build and to train."""
    model = config.model
    if model.backbone.type.startswith('mmdet.'):
        needs_operators()
    model.data_preprocessor = config.data_preprocessor
    shrink(model)
    return MODELS.build(model)


@contextmanager
def without_storage():
    """What is built has shapes alone; only what Swin lays out its stochastic
    depth with needs real numbers."""
    on_cpu = partial(torch.linspace, device='cpu')
    with patch('torch.linspace', on_cpu), torch.device('meta'):
        yield


def run_for_one_step(config, model, jpegs):
    """Train a model on two images and test it on one; gives the log, and
    whether each parameter has changed."""
    optimizer = build_optim_wrapper(model.train(), config.optim_wrapper)
    if 'paramwise_cfg' in config.optim_wrapper:
        check_weight_decay(model, optimizer.optimizer)
    before = {name: p.clone() for name, p in model.named_parameters()}
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    changed = {name: not torch.equal(p, before[name]) for name, p in model.named_parameters()}

    data = run_pipeline(config.val_dataloader, jpegs, labels=[3])
    with torch.no_grad():
        (sample,) = model.eval().val_step(data)
    assert sample.pred_score.shape == (config.model.head.num_classes,)
    assert sample.pred_score.sum() == pytest.approx(1, abs=1e-4)
    return log, changed


def first_steps(paths, batch):
    """Inputs and losses of recipes that are compared, and their last data: they start from the
    same weights and draw with the same seeds."""
    inputs, losses, states = [], [], []
    for path in paths:
        config = read(path)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
            model.init_weights()
        states.append(model.state_dict())
        torch.manual_seed(1)
        if model.data_preprocessor.batch_augments:
            model.data_preprocessor.batch_augments.seed(3)
        data = model.train().data_preprocessor(deepcopy(batch), True)
        inputs.append(data['inputs'])
        losses.append(model.loss(**data))
    torch.testing.assert_close(states[1:], [states[0]] * (len(states) - 1), rtol=0, atol=0)
    return inputs, losses, data


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
