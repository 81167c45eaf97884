"""The arms of the study differ in their labels and in nothing else."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from .conftest import read, tracked

FOLDER = 'configs/classification/tlalign'
ARMS = ('none', 'cutmix', 'tlalign')


def load(arm, backbone):
    return read(f'{FOLDER}/{arm}_{backbone}-mini_1xb128-128e_cifar10-2500.py')


def build(config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
        model.init_weights()
    return model.train()


def test_list_is_complete():
    assert len([path for path in tracked(FOLDER) if '-128e_' in path]) == 6


@pytest.mark.parametrize('backbone', ['deit', 'swin'])
def test_arms_differ_in_labels_only(backbone):
    configs = {arm: load(arm, backbone).to_dict() for arm in ARMS}
    models = {arm: config.pop('model') for arm, config in configs.items()}
    assert configs['none'] == configs['cutmix'] == configs['tlalign']
    images = configs['none']['train_dataloader']['dataset']['num_samples']
    assert images * configs['none']['train_cfg']['max_epochs'] == 320000
    assert models['none'].pop('train_cfg') is None
    for arm in ('cutmix', 'tlalign'):
        (augment,) = models[arm].pop('train_cfg')['augments']
        assert augment['type'] == 'mmtlalign.TokenCutMix'
    area = dict(type='mmtlalign.AreaTarget')
    assert [models[arm].pop('target', None) for arm in ARMS] == [
        area,
        dict(area, monitor=True),
        None,
    ]
    assert models['none'] == models['cutmix'] == models['tlalign']


@pytest.mark.parametrize('backbone', ['deit', 'swin'])
def test_pairs_start_alike_and_see_the_same_mixes(backbone):
    losses, inputs, states = {}, {}, {}
    for arm in ARMS:
        model = build(load(arm, backbone))
        states[arm] = model.state_dict()
        torch.manual_seed(1)
        images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
        data = model.data_preprocessor(
            dict(
                inputs=list(images), data_samples=[DataSample().set_gt_label(i) for i in range(4)]
            ),
            True,
        )
        inputs[arm] = data['inputs']
        losses[arm] = model.loss(**data)
    for arm in ('none', 'cutmix'):
        assert all(torch.equal(value, states['tlalign'][key]) for key, value in states[arm].items())
    assert torch.equal(inputs['cutmix'], inputs['tlalign'])
    assert not torch.equal(inputs['none'], inputs['tlalign'])
    assert {'token_fluctuation', 'lam'} <= set(losses['cutmix'])
    assert set(losses['none']) == {'loss'}
