"""Arms on planted digits start alike and see the same mixes, with other labels."""

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from mmtlalign.models.targets import visible_share

from .recipes import first_steps, read

FOLDER = 'configs/classification/planted'
ARMS = ('cutmix', 'object', 'tlalign', 'contribution')


def path_of(arm):
    return f'{FOLDER}/{arm}_deit-micro_1xb50-150e_planted-24px.py'


@pytest.fixture(scope='module')
def batch():
    """The first of the training images, through their own pipeline."""
    config = read(path_of('object'))
    config.train_dataloader.dataset.num_images = 50
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))


@pytest.mark.slow
def test_pairs_start_alike_and_see_the_same_mixes(batch):
    inputs, losses, data = first_steps(map(path_of, ARMS), batch)
    assert all(torch.equal(one, inputs[0]) for one in inputs)
    assert not torch.equal(inputs[0][0], inputs[0][1])
    # heads start at zero, so that losses cannot differ yet
    shares = [loss.get('aligned_share') for loss in losses]
    assert shares[0] is None and len({share.item() for share in shares[1:]}) == 3
    true = visible_share(data['mix'], data['data_samples'])
    assert shares[1].item() == pytest.approx(true.mean().item())
    assert 0 < losses[1]['lam'] < 1


def test_mean_and_deviation_are_those_of_the_images():
    config = read(path_of('cutmix'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = DATASETS.build(config.train_dataloader.dataset)
    images = torch.stack(
        [torch.from_numpy(data.get_data_info(i)['img']) for i in range(len(data))]
    ).double()
    stated = config.data_preprocessor
    assert images.mean().item() == pytest.approx(stated.mean[0], abs=2)
    assert images.std().item() == pytest.approx(stated.std[0], abs=2)
