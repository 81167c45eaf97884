"""Other ways to mix: the recipes of TL-Align but for mask and label."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .test_configs import (  # noqa: F401
    ROOT,
    build_model,
    jpegs,
    load,
    run_pipeline,
)

FOLDER = ROOT / 'configs/classification/mixing'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
METHODS = dict(cutout='Cutout', fmix='FMix', gridmix='GridMix',
               maskmix='MaskMix', mixup='Mixup', **{'tokenmix-area':
                                                    'TokenMix'})


def test_list_is_complete():
    nets = ('deit-mini_1xb128_cifar10', 'deit-small_8xb128_in1k')
    assert CONFIGS == sorted(
        f'{method}_{net}' for method in METHODS for net in nets)


@pytest.mark.parametrize('name', CONFIGS)
def test_only_mask_and_label_differ(name):
    method, recipe = name.split('_', 1)
    cfg = Config.fromfile(FOLDER / f'{name}.py').to_dict()
    base = Config.fromfile(
        FOLDER.with_name('tlalign') / f'tlalign_{recipe}.py').to_dict()
    assert cfg['model'].pop('target') == dict(type='mmtlalign.AreaTarget')
    augment, = cfg['model'].pop('train_cfg')['augments']
    assert augment['type'] == f'mmtlalign.{METHODS[method]}'
    assert augment['patch_size'] == cfg['model']['backbone']['patch_size']
    base['model'].pop('train_cfg')
    assert cfg == base


@pytest.mark.parametrize('name', CONFIGS)
def test_runs_for_one_step(name, load, jpegs):  # noqa: F811
    config = load(Path('configs/classification/mixing', f'{name}.py'))
    model = build_model(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert 'aligned_share' not in log
    assert log['lam'] == 1 if 'cutout' in name else 0 <= log['lam'] <= 1


@pytest.mark.parametrize('name', [n for n in CONFIGS if 'mini' in n])
def test_any_mask_trains_with_aligned_labels(name, load, jpegs):  # noqa: F811
    config = load(Path('configs/classification/mixing', f'{name}.py'))
    config.merge_from_dict(
        {'model.target.type': 'mmtlalign.AlignedTarget'})
    model = build_model(config).train()
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    batch = model.data_preprocessor(data, training=True)
    losses = model.loss(**batch)
    assert torch.isfinite(losses['loss'])
    assert 0 <= losses['aligned_share'] <= 1
