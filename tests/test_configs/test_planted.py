"""Arms on planted digits start alike and see the same mixes, with other labels."""

import pytest
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from mmtlalign.models.targets import visible_share

from .recipes import read

FOLDER = 'configs/classification/planted'
ARMS = ('cutmix', 'object', 'tlalign', 'contribution')


def load(arm):
    return read(f'{FOLDER}/{arm}_deit-micro_1xb50-150e_planted-24px.py')


@pytest.fixture(scope='module')
def batch():
    """The first of the training images, through their own pipeline."""
    config = load('object')
    config.train_dataloader.dataset.num_images = 50
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))


@pytest.mark.slow
def test_pairs_start_alike_and_see_the_same_mixes(batch):
    inputs, states, losses, shares = {}, {}, {}, {}
    for arm in ARMS:
        config = load(arm)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
            model.init_weights()
        model.data_preprocessor.batch_augments.seed(3)
        states[arm] = model.state_dict()
        data = model.train().data_preprocessor(batch, True)
        inputs[arm], losses[arm] = data['inputs'], model.loss(**data)
        shares[arm] = losses[arm].get('aligned_share')
    for arm in ARMS:
        assert all(torch.equal(value, states['cutmix'][key]) for key, value in states[arm].items())
        assert torch.equal(inputs[arm], inputs['cutmix'])
    assert not torch.equal(inputs['cutmix'][0], inputs['cutmix'][1])
    # heads start at zero, so that losses cannot differ yet
    assert shares.pop('cutmix') is None
    assert len({share.item() for share in shares.values()}) == 3
    true = visible_share(data['mix'], data['data_samples'])
    assert shares['object'].item() == pytest.approx(true.mean().item())
    assert 0 < losses['object']['lam'] < 1


def test_mean_and_deviation_are_those_of_the_images():
    config = load('cutmix')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = DATASETS.build(config.train_dataloader.dataset)
    images = torch.stack(
        [torch.from_numpy(data.get_data_info(i)['img']) for i in range(len(data))]
    ).double()
    stated = config.data_preprocessor
    assert images.mean().item() == pytest.approx(stated.mean[0], abs=2)
    assert images.std().item() == pytest.approx(stated.std[0], abs=2)
