"""An extended schedule is where one of that length would be."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmtlalign.engine  # noqa: F401


class Data(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return dict(inputs=torch.full((3,), float(i)), data_samples=None)


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs, data_samples, mode):
        return dict(loss=self.linear(torch.stack(inputs)).square().mean())


class Rates(Hook):
    """The learning rate of every step."""

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner, *args, **kwargs):
        self.found.append(runner.optim_wrapper.get_lr()['lr'][0])


def train(folder, schedule, total, hooks=(), resume=False, name='a'):
    torch.manual_seed(0)
    rates = Rates()
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        experiment_name=f'{folder}{name}',
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=Data(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=total),
        resume=resume,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=schedule,
        custom_hooks=list(hooks),
        default_scope='mmengine',
        cfg=dict(param_scheduler=schedule),
    )
    runner.register_hook(rates)
    runner.train()
    return rates.found, runner.model.state_dict()


def cosine(total):
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='CosineAnnealingLR', T_max=total - 1, begin=1, end=total),
    ]


@pytest.mark.parametrize(
    'make, same',
    [
        (cosine, False),
        (lambda total: [dict(type='PolyLR', eta_min=0)], False),
        (
            lambda total: [dict(type='CosineAnnealingLR', T_max=total, convert_to_iter_based=True)],
            False,
        ),
        (lambda total: [dict(type='MultiStepLR', milestones=[1, 3])], True),
        (lambda total: [dict(type='ConstantLR', factor=0.5, end=1)], True),
    ],
)
def test_rates_after_an_extension_are_those_of_a_longer_run(tmp_path, make, same):
    whole, weights = train(tmp_path / 'whole', make(5), 5)
    train(tmp_path / 'part', make(2), 2)
    rest, found = train(
        tmp_path / 'part',
        make(5),
        5,
        resume=True,
        name='b',
        hooks=[dict(type='mmtlalign.ExtendSchedule')],
    )
    assert rest == pytest.approx(whole[6:], rel=1e-12)
    if same:  # the beginning did not depend on the total
        assert all(torch.equal(weights[key], found[key]) for key in weights)


def test_without_it_the_old_schedule_stays(tmp_path):
    """What the test above would miss if the host did it."""
    schedule = [dict(type='PolyLR', eta_min=0)]
    whole, _ = train(tmp_path / 'whole', schedule, 5)
    train(tmp_path / 'part', schedule, 2)
    rest, _ = train(tmp_path / 'part', schedule, 5, resume=True, name='b')
    assert max(rest) < min(whole[6:9])
