"""Aligned labels for all tokens: the recipes of TL-Align but for three things."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .conftest import ROOT, build_model, run_pipeline

FOLDER = ROOT / 'configs/classification/tlalign-tokens'
RECIPES = ('deit-digits_1xb32_digits', 'deit-mini_1xb128_cifar10', 'deit-small_8xb128_in1k')


def path_of(recipe):
    return FOLDER / f'tlalign-tokens_{recipe}.py'


def test_list_is_complete():
    assert set(FOLDER.glob('*.py')) == set(map(path_of, RECIPES))


@pytest.mark.parametrize('recipe', RECIPES)
def test_only_outputs_head_and_target_differ(recipe):
    ours = Config.fromfile(path_of(recipe)).to_dict()
    base = Config.fromfile(FOLDER.with_name('tlalign') / f'tlalign_{recipe}.py').to_dict()
    model = ours['model']
    assert model.pop('target') == dict(type='mmtlalign.AlignedTokenTarget')
    assert model['backbone'].pop('out_type') == 'raw'
    assert model['head'].pop('type') == 'mmtlalign.AlignedTokenHead'
    base['model']['head'].pop('type')
    assert ours == base


@pytest.mark.parametrize('recipe', RECIPES)
def test_runs_for_one_step(recipe, load, jpegs):
    config = load(path_of(recipe))
    model = build_model(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    before = model.head.aux_head.weight.clone()
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    torch.testing.assert_close(log['loss'], log['loss_cls'] + log['loss_dense'])
    assert 0 <= log['aligned_share'] <= 1
    assert not torch.equal(before, model.head.aux_head.weight)
    data = run_pipeline(config.val_dataloader, jpegs, labels=[3])
    with torch.no_grad():
        (sample,) = model.eval().val_step(data)
    assert sample.pred_score.shape == (config.data_preprocessor.num_classes,)
