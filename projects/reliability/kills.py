"""Trainings killed at random times, resumed, and held against whole ones."""

import random
import time
from collections.abc import Callable
from functools import cache, partial

import torch
from bench import Bench

# By task: the config and options of a training of some seconds, and its last checkpoint.
DENSE = ['train_cfg.max_iters=20', 'train_cfg.val_interval=20']
DENSE += ['default_hooks.checkpoint.interval=2']
TASKS = dict(
    classification=('tiny', ['train_cfg.max_epochs=20'], 'epoch_20.pth'),
    detection=('detector', DENSE, 'iter_20.pth'),
    segmentation=('segmenter', DENSE, 'iter_20.pth'),
)


def command(task: str) -> tuple[list[str], str]:
    """Arguments of a task's training, and where it leaves its last checkpoint."""
    config, options, last = TASKS[task]
    arguments = [f'{config}.py', '--no-report', '--cfg-options', *options]
    return arguments, f'work_dirs/{config}/{last}'


def same(a, b) -> bool:
    """Whether nested containers are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@cache
def whole(task: str, bench: Bench) -> tuple[dict, float, float]:
    """The last checkpoint of a training that nobody kills, and after how many seconds the first
    one was there, and the end."""
    arguments, last = command(task)
    folder, begin = bench.copy(), time.time()
    outcome = bench.expect('train', arguments, folder)
    end = folder / last
    first = min(path.stat().st_mtime for path in end.parent.glob('*.pth')) - begin
    return torch.load(end, weights_only=False), first, outcome.seconds


def kill(task: str, seed: int, bench: Bench) -> dict:
    """Kill one training, go on with it, and compare.

    Args:
        task (str): Of ``TASKS``.
        seed (int): Of the time, which is drawn from the first checkpoint to the end; before, there
            is nothing to go on from. Drawn again, earlier, where the training ended first.
        bench (Bench): Gives the folder.

    Returns:
        dict: Seconds to the kill, checkpoints that lay there, how both legs
        ended, and whether weights and optimizer are those of the whole one.
    """
    arguments, last = command(task)
    wanted, first, seconds = whole(task, bench)
    draw = random.Random(f'{task} {seed}').uniform
    moment, killed = seconds, None
    while killed is None or killed.status != 128 + 9:  # it had ended: kill earlier
        folder, moment = bench.copy(), draw(first, moment)
        killed = bench.call('train', arguments, folder, kill_after=moment)
    left = sorted(path.name for path in folder.glob('work_dirs/*/*.pth'))
    resumed = bench.call('train', [*arguments, '--resume'], folder)
    path = folder / last
    found = torch.load(path, weights_only=False) if path.is_file() else {}
    parts = {'state_dict', 'optimizer', 'param_schedulers'} & wanted.keys()
    identical = all(part in found and same(found[part], wanted[part]) for part in parts)
    ended = dict(status=resumed.status, line=resumed.line)
    return dict(seconds=round(moment, 2), left=left, **ended, identical=identical)


def all_kills(count: int, bench: Bench) -> dict[str, Callable[[], dict]]:
    """By name, that many kills, over the tasks in turn."""
    drawn = [(list(TASKS)[i % 3], i // 3) for i in range(count)]
    return {f'{task} {seed}': partial(kill, task, seed, bench) for task, seed in drawn}
