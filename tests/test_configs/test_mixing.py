"""Other ways to mix: the recipes of TL-Align but for mask and label."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from .conftest import build_model, cases, read, run_pipeline, stem, tracked

FOLDER = 'configs/classification/mixing'
CONFIGS = tracked(FOLDER)
METHODS = dict(cutout='Cutout', fmix='FMix', gridmix='GridMix', mixup='Mixup')


def test_list_is_complete():
    nets = ('deit-mini_1xb128_cifar10', 'deit-small_8xb128_in1k')
    assert set(map(stem, CONFIGS)) == {f'{method}_{net}' for method in METHODS for net in nets}


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_only_mask_and_label_differ(path):
    method, recipe = stem(path).split('_', 1)
    cfg = read(path).to_dict()
    base = read(f'configs/classification/tlalign/tlalign_{recipe}.py').to_dict()
    assert cfg['model'].pop('target') == dict(type='mmtlalign.AreaTarget')
    (augment,) = cfg['model'].pop('train_cfg')['augments']
    assert augment['type'] == f'mmtlalign.{METHODS[method]}'
    assert augment['patch_size'] == cfg['model']['backbone']['patch_size']
    base['model'].pop('train_cfg')
    assert cfg == base


@pytest.mark.parametrize('path', cases(CONFIGS))
def test_runs_for_one_step(path, load, jpegs):
    config = load(path)
    model = build_model(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert 'aligned_share' not in log
    assert log['lam'] == 1 if 'cutout' in path else 0 <= log['lam'] <= 1


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'mini' in path], ids=stem)
def test_any_mask_trains_with_aligned_labels(path, load, jpegs):
    config = load(path)
    config.merge_from_dict({'model.target.type': 'mmtlalign.AlignedTarget'})
    model = build_model(config).train()
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    batch = model.data_preprocessor(data, training=True)
    losses = model.loss(**batch)
    assert torch.isfinite(losses['loss'])
    assert 0 <= losses['aligned_share'] <= 1
