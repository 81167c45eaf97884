"""A training that diverges stops, and leaves its last sound checkpoint."""

import functools

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper

from mmtlalign.engine import StopOnDivergence
from mmtlalign.errors import UserError

from .. import toy
from ..toy import ITERS, Model


class Late(Hook):
    """Do something to the last step of the second epoch."""

    def __init__(self, action):
        self.action = action

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == 2 * ITERS:
            self.action(runner)


def runner(folder, model, hooks=(), **more):
    return toy.runner(folder, model, [*hooks, dict(type='mmtlalign.StopOnDivergence')], **more)


def stopped(run):
    with pytest.raises(UserError) as error:
        run.train()
    assert '\n' not in str(error.value)
    return str(error.value)


def saved(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def at(first, what):
    """Multiply the loss from a step on."""
    return lambda step, loss: loss * what if step >= first else loss


@pytest.mark.parametrize('what', [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite(tmp_path, what):
    said = stopped(runner(tmp_path, Model(at(ITERS + 3, what))))
    assert 'a loss is not finite, by iteration 8 (epoch 2)' in said
    assert f'--resume {tmp_path}/epoch_1.pth --cfg-options' in said
    assert 'it is 0.01 now' in said
    # no checkpoint of an earlier training is named
    assert 'no earlier checkpoint' in stopped(runner(tmp_path, Model(at(1, torch.nan))))


def test_within_one_interval_of_logging(tmp_path):
    logger = dict(type='LoggerHook', interval=3)
    run = runner(tmp_path, Model(at(3, torch.nan)), default_hooks=dict(logger=logger))
    said = stopped(run)
    assert 'by iteration 3 (epoch 1)' in said
    assert 'There is no earlier checkpoint: begin anew' in said


def test_a_gradient_alone(tmp_path):
    """That of a root of nothing."""
    run = runner(
        tmp_path,
        Model(lambda step, loss: loss + (loss - loss.detach()) ** 0.5 if step == 6 else loss),
    )
    assert 'a gradient is not finite, by iteration 6' in stopped(run)


def spoil_weight(run):
    run.model.linear.weight.data[0, 1] = torch.nan


def spoil_buffer(run):
    run.model.mean[1] = torch.inf


def spoil_state(run):
    state, *_ = run.optim_wrapper.optimizer.state.values()
    state['exp_avg_sq'][0] = torch.inf


def spoil_average(run):
    (hook,) = (hook for hook in run.hooks if hasattr(hook, 'ema_model'))
    hook.ema_model.module.linear.bias.data[0] = torch.nan


BY_ITERATION = dict(
    train_cfg=dict(by_epoch=False, max_iters=3 * ITERS),
    default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=ITERS, max_keep_ckpts=1)
    ),
)


@pytest.mark.parametrize(
    'action, complaint, by_epoch',
    [
        (spoil_weight, 'linear.weight (weights) is not finite', True),
        (spoil_buffer, 'mean (weights) is not finite', True),
        (spoil_state, 'optimizer.0.exp_avg_sq is not finite', True),
        (spoil_average, '(averaged weights of EMAHook) is not finite', True),
        (spoil_average, '(averaged weights of EMAHook) is not finite', False),
    ],
)
def test_what_no_loss_shows_in_time(tmp_path, action, complaint, by_epoch):
    more = {} if by_epoch else BY_ITERATION
    run = runner(tmp_path, Model(), hooks=[dict(type='EMAHook'), Late(action)], **more)
    assert complaint in stopped(run)
    assert saved(tmp_path) == ['epoch_1.pth' if by_epoch else f'iter_{ITERS}.pth']


def test_after_a_training(tmp_path):
    """Its hooks on optimizers have ended, and others write nothing unsound."""
    run = runner(tmp_path, Model())
    run.train()
    assert not run.optim_wrapper.optimizer._optimizer_step_pre_hooks
    run.model.linear.bias.data[0] = torch.inf
    with pytest.raises(UserError, match='state_dict.linear.bias is not fini'):
        run.save_checkpoint(str(tmp_path), 'mine.pth')
    assert not (tmp_path / 'mine.pth').exists()


def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    """Flags become Python's only where they are logged."""
    reads = []
    run = runner(tmp_path, Model(), train_cfg=dict(by_epoch=True, max_epochs=1))
    step, to_bool = StopOnDivergence.after_train_iter, torch.Tensor.__bool__

    def watched(tensor):
        reads.append(run.iter + 1)
        return to_bool(tensor)

    def after_train_iter(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, '__bool__', watched)
            patch.setattr(torch.Tensor, 'item', watched)
            step(*args, **kwargs)

    monkeypatch.setattr(StopOnDivergence, 'after_train_iter', after_train_iter)
    run.train()
    assert {*reads} == {2, 4}


@pytest.fixture
def scaled(monkeypatch):
    """mmengine's float16 wrapper, made to work on a CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(
        amp_optimizer_wrapper,
        'GradScaler',
        functools.partial(torch.amp.GradScaler, 'cpu', init_scale=2.0**30),
    )


def train_scaled(folder, spoil, fused=False, **more):
    """Six epochs or until it stops; the runner, and why it stopped."""
    optimizer = dict(type='AdamW', lr=0.01, fused=fused)
    run = runner(
        folder,
        Model(spoil),
        optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=optimizer, **more),
        train_cfg=dict(by_epoch=True, max_epochs=6),
    )
    try:
        run.train()
    except UserError as error:
        return run, str(error)
    return run, ''


@pytest.mark.slow
@pytest.mark.parametrize('count, fused', [(1, True), (19, True), (19, False)])
def test_skipped_steps_are_counted_and_no_divergence(tmp_path, scaled, fused, count):
    run, why = train_scaled(
        tmp_path, lambda step, loss: loss * torch.inf if 2 < step <= 2 + count else loss, fused
    )
    assert not why
    history, _ = run.message_hub.get_scalar('train/skipped_steps').data
    assert history[0] == 0 and history[-1] == count
    (log,) = tmp_path.glob('*/*.log')
    assert f'skipped_steps: {count}' in log.read_text()
    assert saved(tmp_path) == ['epoch_6.pth']


@pytest.mark.parametrize('fused', [False, True])
def test_too_many_skipped_steps(tmp_path, scaled, fused):
    run, why = train_scaled(tmp_path, at(3, torch.nan), fused)
    assert '20 steps in a row were skipped' in why
    assert run.iter + 1 == 2 + 20


def test_a_scale_below_one(tmp_path, scaled):
    _, why = train_scaled(tmp_path, at(ITERS + 1, torch.inf), loss_scale=dict(init_scale=4.0))
    # 2 and 1 at iteration 6, then .5 and .25
    assert 'loss scale of 0.25, by iteration 8' in why


def test_several_optimizers(tmp_path):
    """As of a model that steps each of them itself."""
    model = Model(at(ITERS + 1, torch.nan))

    def train_step(data, optim_wrapper):
        loss = model.forward(**data, mode='loss')['loss']
        optim_wrapper['one'].update_params(loss)
        return dict(other=loss)

    model.train_step = train_step
    wrapper = OptimWrapperDict(
        one=build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1)))
    )
    assert 'a gradient is not finite' in stopped(runner(tmp_path, model, optim_wrapper=wrapper))
