"""What of a run's log the console shows: the log file has all of it."""

import logging
import os.path as osp
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from shutil import which

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner, find_latest_checkpoint
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

# How the host's reports begin that fill screens: hundreds of lines before the
# first step. Nobody reads them there, and the file keeps them.
FILE_ONLY = re.compile(
    r'\n-+\nSystem environment:'
    r'|Config:\n'
    r'|Hooks will be executed in the following order:'
    r'|Distributed training is not used, all SyncBatchNorm'
    r'|Exp name: '
    # one line for each option of each parameter: hundreds for a DeiT-S
    r'|paramwise_options -- \S+:\w+=\S+\Z'
)


def console_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    """Those that write no file."""
    streams = [one for one in logger.handlers if isinstance(one, logging.StreamHandler)]
    return [one for one in streams if not isinstance(one, logging.FileHandler)]


def is_for_console(record: logging.LogRecord) -> bool:
    """A logging filter."""
    return not FILE_ONLY.match(str(record.msg))


@contextmanager
def progress_bar(runner: Runner) -> Iterator[None]:
    """On a terminal, a bar in place of the lines on training steps."""
    bar = _ProgressBar()
    # One that cannot move its cursor (TERM=dumb) shows no bar
    if not (bar.progress.console.is_interactive and is_main_process()):
        yield
        return
    runner.register_hook(bar, priority='VERY_LOW')  # after what it shows is known
    with bar.progress:
        for handler in console_handlers(runner.logger):
            handler.setStream(sys.stdout)  # which now prints above the bar
            handler.addFilter(lambda record: '(train)' not in str(record.msg)[:12])
        yield


class _ProgressBar(Hook):
    """How far a training is, and its newest figures."""

    # Of the last step, those of them that there are
    FIGURES = {'loss': 'loss', 'lam': 'lam', 'aligned_share': 'share'}

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(),
        )

    def before_train(self, runner: Runner) -> None:
        self.task = self.progress.add_task('', total=runner.max_iters, completed=runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.progress.update(self.task, completed=runner.iter + 1, description=self.text(runner))

    def text(self, runner: Runner) -> str:
        """Such as ``epoch 3/120  412 images/s  loss 1.92  share 0.71  accuracy/top1 94.17``."""
        scalars = runner.message_hub.log_scalars
        words = [f'{runner.iter + 1}/{runner.max_iters}']
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            words = [f'epoch {runner.epoch + 1}/{runner.max_epochs}']
        if rate := scalars.get('train/images_per_second'):
            words.append(f'{rate.current():.0f} images/s')
        words += [
            f'{word} {scalars[f"train/{name}"].current():.3g}'
            for name, word in self.FIGURES.items()
            if f'train/{name}' in scalars
        ]
        tested = [name for name in scalars if name.startswith('val/') and 'time' not in name]
        words += [f'{name[4:]} {scalars[name].current():.4g}' for name in tested[:1]]
        return '  '.join(words)


def say_what_next(runner: Runner) -> None:
    """Where the weights are, and what to do with them: commands that work here."""
    checkpoint = find_latest_checkpoint(runner.work_dir)
    if not (is_main_process() and checkpoint):
        return
    config = osp.join(runner.work_dir, osp.basename(runner.cfg.filename))
    command = 'mmtlalign' if which('mmtlalign') else f'{quote(sys.executable)} -m mmtlalign'
    print(f'checkpoint: {checkpoint}\nnext:')
    if runner.cfg.get('test_dataloader'):
        print(f'  {command} test {quote(config)} {quote(checkpoint)}')
    print(f'  {command} publish {quote(checkpoint)} published')
