"""What resumes is what ran."""

import pytest
from mmengine.config import Config

from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.resumed_config import check_same_run, epoch_length, extend_schedule
from mmtlalign.errors import UserError

from ..tiny import CONFIG


def config(**options):
    cfg = Config.fromstring(CONFIG, '.py')
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    use_own_loaders(cfg)
    return cfg


def check(today, before=None, accepted=(), extend=None, **meta):
    before = before or config()
    return check_same_run(
        today, dict(meta=dict(cfg=before.pretty_text, seed=3, **meta)), 'a.pth', accepted, extend
    )


@pytest.mark.parametrize(
    'free',
    [
        dict(train_dataloader__num_workers=2, train_dataloader__pin_memory=True),
        dict(train_dataloader__dataset__data_root='elsewhere'),
        dict(val_dataloader__batch_size=9, val_evaluator__topk=2),
        dict(default_hooks__logger__interval=7, log_level='DEBUG'),
        dict(train_cfg__val_interval=2, launcher='pytorch', work_dir='b'),
        dict(visualizer=dict(type='Visualizer'), custom_hooks=[]),
        dict(model__backbone__init_cfg=dict(type='Pretrained', checkpoint='a')),
    ],
)
def test_what_may_differ(free, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '1')
    assert check(config(**free)) == []


@pytest.mark.parametrize(
    'key, value, was',
    [
        ('model.backbone.drop_rate', 0.2, '0.1'),
        ('optim_wrapper.optimizer.lr', 0.1, '0.01'),
        ('optim_wrapper.clip_grad', dict(max_norm=1), 'absent'),
        ('param_scheduler.type', 'PolyLR', "'CosineAnnealingLR'"),
        ('train_cfg.max_epochs', 8, '3'),
        ('train_dataloader.sampler.shuffle', False, 'True'),
        ('train_dataloader.dataset.pipeline.1.padding', 3, '2'),
        ('data_preprocessor.mean', [1.0], r'\[127.0, 127.0, 127.0\]'),
        ('randomness.seed', 4, '3'),
        # hooks that train are part of the run
        ('custom_hooks', [dict(type='EMAHook')], r'\[\] and is {'),
        ('custom_hooks', [dict(type='mmdet.PipelineSwitchHook')], r'\[\] and is {'),
    ],
)
def test_what_may_not(key, value, was):
    today = config()
    today.merge_from_dict({key: value})
    said = (
        rf"checkpoint 'a.pth' is of another run: {key}\S* was .*; set "
        'them back .*--accept KEY .*load_from=a.pth and another'
    )
    with pytest.raises(UserError, match=said) as error:
        check(today)
    assert was.replace('\\', '') in str(error.value)
    told = check(today, accepted=[key.rpartition('.')[0] or key])
    assert len(told) == 1 and told[0].startswith(key.split('.')[0])


def test_the_batch_of_a_step_is_what_counts(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    halves = config(train_dataloader__batch_size=2)
    assert check(halves, world_size=1) == []
    quarters = config(train_dataloader__batch_size=1, optim_wrapper__accumulative_counts=2)
    assert check(quarters, world_size=1) == []
    with pytest.raises(UserError, match='batch_size .* was 4 and is 8'):
        check(config(), world_size=1)


def test_readers_of_older_versions_and_a_seed_that_was_drawn_are_the_same_run():
    """Checkpoints of earlier versions name the host's data sets."""
    before, today = config(), config()
    before.train_dataloader.dataset.type = 'CustomDataset'
    assert today.train_dataloader.dataset.type == 'mmtlalign.CustomDataset'
    for cfg in (before, today):
        cfg.pop('randomness')
    assert check(today, before) == []
    assert today.randomness.seed == 3


def test_what_no_entry_is_called_cannot_be_accepted():
    with pytest.raises(UserError, match='--accept modle.head: no entry of this name is read'):
        check(config(), accepted=['model.head', 'modle.head'])


def test_a_config_that_is_no_data_is_not_compared(capsys):
    assert check_same_run(config(), dict(meta=dict(cfg='import os; os.abort()')), 'a.pth') == []
    assert 'holds no config that can be compared' in capsys.readouterr().out


def test_an_extension_is_the_same_run_twice():
    today = config()
    assert check(today, extend=5) == []
    assert today.train_cfg.max_epochs == 5
    assert today.param_scheduler.T_max == 5
    for again in 5, 7:  # killed, or longer still
        assert check(config(), before=today, extend=again) == []
    with pytest.raises(UserError, match=r'max_epochs was 5 and is 3 \(--ext'):
        check(config(), before=today)
    with pytest.raises(UserError, match='--extend 2 is less than'):
        check(config(), extend=2)
    with pytest.raises(UserError, match='lr was 0.01 and is 0.1'):
        check(config(optim_wrapper__optimizer__lr=0.1), before=today, extend=7)


STEPWISE = dict(type='CosineAnnealingLR', by_epoch=False, T_max=30, begin=10, end=40)


@pytest.mark.parametrize(
    'schedule, changed, length',
    [
        (dict(type='LinearLR', by_epoch=False, end=10), {}, None),
        (dict(type='CosineAnnealingLR', T_max=8, begin=2, end=10), dict(T_max=18, end=20), None),
        (dict(type='MultiStepLR', milestones=[6, 10]), {}, None),
        (dict(type='PolyLR', begin=2, end=6), {}, None),
        # by iterations, of which an epoch has four
        (dict(type='LinearLR', by_epoch=False, end=10), {}, 4),
        (STEPWISE, dict(T_max=70, end=80), 4),
        (dict(type='OneCycleLR', by_epoch=False, total_steps=40), dict(total_steps=80), 4),
    ],
)
def test_only_what_ended_with_the_run_ends_with_the_new_one(schedule, changed, length):
    cfg = Config(dict(train_cfg=dict(max_epochs=10), param_scheduler=[schedule]))
    extend_schedule(cfg, 20, length)
    assert cfg.param_scheduler == [dict(schedule, **changed)]


def test_the_length_of_an_epoch():
    info = dict(max_epochs=10, max_iters=40)
    assert epoch_length(dict(message_hub=dict(runtime_info=info))) == 4
    assert epoch_length({}) is epoch_length(dict(message_hub=dict(runtime_info=dict()))) is None
