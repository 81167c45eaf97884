"""An extended schedule is where one of that length would be."""

import pytest
import torch

from ..toy import ITERS, Model, runner


def train(folder, schedule, total, hooks=(), resume=False):
    torch.manual_seed(0)
    run = runner(
        folder,
        Model(),
        hooks,
        experiment_name=f'{folder}{total}',
        train_cfg=dict(by_epoch=True, max_epochs=total),
        resume=resume,
        param_scheduler=schedule,
        cfg=dict(param_scheduler=schedule),
    )
    run.train()
    return run.message_hub.get_scalar('train/lr').data[0], run.model.state_dict()


def cosine(total):
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='CosineAnnealingLR', T_max=total - 1, begin=1, end=total),
    ]


def by_iteration(total):
    return [dict(type='CosineAnnealingLR', T_max=total, convert_to_iter_based=True)]


def poly(total):
    return [dict(type='PolyLR', eta_min=0)]


def steps(total):
    return [dict(type='MultiStepLR', milestones=[1, 3])]


@pytest.mark.slow
@pytest.mark.parametrize('make', [cosine, by_iteration, poly, steps])
def test_rates_after_an_extension_are_those_of_a_longer_run(tmp_path, make):
    whole, weights = train(tmp_path / 'whole', make(4), 4)
    train(tmp_path / 'part', make(2), 2)
    hook = dict(type='mmtlalign.ExtendSchedule')
    rest, found = train(tmp_path / 'part', make(4), 4, [hook], resume=True)
    assert len(rest) == len(whole) == 4 * ITERS
    assert rest[2 * ITERS :] == pytest.approx(whole[2 * ITERS :], rel=1e-12)
    if make is steps:  # the beginning did not depend on the total
        assert all(torch.equal(weights[key], found[key]) for key in weights)
