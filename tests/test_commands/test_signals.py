"""A training that is asked to end finishes its step, saves and says so."""

import signal

import pytest

from ..tiny import write_project
from .test_train_and_test import load, same

SENDER = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Sender(Hook):
    priority = 'VERY_LOW'

    def __init__(self, number, at):
        self.number, self.at = number, at

    def before_train_iter(self, runner, *args, **kwargs):
        self.send(f'iter_{runner.iter}')

    def before_save_checkpoint(self, runner, checkpoint):
        self.send(f'save_{runner.epoch + 1}')

    def after_val_iter(self, runner, *args, **kwargs):
        self.send(f'val_{runner.epoch}')

    def send(self, moment):
        if moment == self.at:
            self.at = None
            os.kill(os.getpid(), self.number)
"""


def interrupt(folder, monkeypatch, number, at, extra=''):
    """Write a project that sends itself a signal."""
    (folder / 'sender.py').write_text(SENDER)
    monkeypatch.syspath_prepend(folder)
    write_project(
        folder,
        f"""
custom_imports = dict(imports=['sender'])
custom_hooks.append(dict(type='mmengine.Sender', number={int(number)}, at={at!r}))
{extra}""",
    )


@pytest.mark.parametrize(
    'number, at, step, name',
    [
        (signal.SIGTERM, 'iter_4', 5, 'interrupted_epoch_1_iter_5.pth'),
        pytest.param(signal.SIGINT, 'save_2', 6, 'epoch_2.pth', marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 'iter_5', 6, 'epoch_2.pth', marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 'val_1', 3, 'epoch_1.pth', marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_bit_identical(
    hangup_ends, trained, ends_with, here, tmp_path, capsys, monkeypatch, number, at, step, name
):
    interrupt(tmp_path, monkeypatch, number, at)
    assert ends_with('train.py', 'tiny.py') == 128 + number
    work = tmp_path / 'work_dirs/tiny'
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'train.py: stopped by {number.name} after iteration {step}; all of it is in '
        f"'{work / name}': the same command with --resume goes on from it"
    )
    assert (work / name).is_file()
    assert (work / 'last_checkpoint').read_text().endswith(name)

    write_project(tmp_path)
    here('train.py', 'tiny.py', '--resume')
    straight, broken = load(trained), load(work / 'epoch_3.pth')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(straight[part], broken[part]), part
    assert broken['meta']['iter'] == straight['meta']['iter'] == 9
    assert not [*work.glob('interrupted*')]
    assert [leg['iter'] for leg in broken['meta']['legs']] == [0, step]


BY_ITER = """
train_cfg = dict(by_epoch=False, max_iters=6, val_interval=6)
param_scheduler = dict(type='PolyLR', by_epoch=False, end=6)
default_hooks['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=6)
"""


@pytest.mark.slow
def test_iterations_without_epochs(ends_with, here, tmp_path, monkeypatch):
    write_project(tmp_path, BY_ITER)
    here('train.py', 'tiny.py', '--work-dir', 'straight')
    interrupt(tmp_path, monkeypatch, signal.SIGTERM, 'iter_3', BY_ITER)
    assert ends_with('train.py', 'tiny.py', '--work-dir', 'broken') == 143
    assert load(tmp_path / 'broken/interrupted_epoch_0_iter_4.pth')['meta']['iter'] == 4
    write_project(tmp_path, BY_ITER)
    here('train.py', 'tiny.py', '--work-dir', 'broken', '--resume')
    a, b = (load(tmp_path / folder / 'iter_6.pth') for folder in ('straight', 'broken'))
    assert same(a['state_dict'], b['state_dict'])
    assert same(a['optimizer'], b['optimizer'])


def test_other_commands_end_with_the_status_of_the_signal(ends_with, tmp_path, monkeypatch, capsys):
    (tmp_path / 'ends.py').write_text('import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n')
    monkeypatch.syspath_prepend(tmp_path)
    write_project(tmp_path, "custom_imports = dict(imports=['ends'])\n")
    assert ends_with('test.py', 'tiny.py', 'a.pth') == 143
    assert capsys.readouterr().err.splitlines()[-1] == 'test.py: stopped by SIGTERM'
