"""Something that happens to a training at one of its moments, once."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..tiny import write_project


@HOOKS.register_module()
class Happens(Hook):
    """Run a statement, which may use ``os``, ``torch`` and the ``batch``."""

    priority = 'VERY_LOW'

    def __init__(self, at, what):
        self.at, self.what = at, what

    def before_run(self, runner):
        self.reach('run')

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.reach(f'iter_{runner.iter}', data_batch)

    def before_save_checkpoint(self, runner, checkpoint):
        self.reach(f'save_{runner.epoch + 1}')

    def after_val_iter(self, runner, *args, **kwargs):
        self.reach(f'val_{runner.epoch}')

    def reach(self, moment, batch=None):
        if moment == self.at:
            self.at = None
            exec(self.what, dict(os=os, torch=torch, batch=batch))


def write_disturbed(folder, at, what, extra=''):
    """Write the tiny project, to whose training that happens; return its path."""
    hook = dict(type='mmengine.Happens', at=at, what=what)
    imported = f'custom_imports = dict(imports=[{__name__!r}])\n'
    return write_project(folder, f'{imported}custom_hooks.append({hook})\n{extra}')
