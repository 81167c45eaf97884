"""One training per work dir, and none over another's checkpoints."""

import fcntl
import os
import os.path as osp
import re
import socket
from pathlib import Path
from typing import IO

from mmtlalign.commands.checks import is_first_process
from mmtlalign.commands.command_line import make_out_folder
from mmtlalign.errors import UserError, warn

LOCK = '.lock'
# What the hosts and StopOnSignal call what can be resumed; what else lies
# there (best_*.pth) cannot.
RESUMABLE = re.compile(r'(?:interrupted_epoch_(\d+)_iter_(\d+)|(?:epoch|iter)_(\d+))\.pth')
# Open files of the locks, until the process ends.
_locks: dict[str, IO] = {}


def lock_work_dir(path: str) -> None:
    """Make the folder and keep other trainings out until this process ends; a UserError names the
    process that has it.

    Only rank 0 locks, and nobody who only reads. The lock is one of POSIX (``lockf``): the kernel
    releases it whichever way the process dies, it is not inherited by data-loading workers, and
    NFS has it too.
    """
    make_out_folder(path, '--work-dir', 'work dir')
    key = osp.realpath(path)
    if key in _locks or not is_first_process():
        return
    file = open(osp.join(path, LOCK), 'a+')
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        owner = file.read().strip() or 'another process'
        file.close()
        raise UserError(
            f"work dir '{path}' is in use by {owner}; wait until that "
            'training has ended, or choose another with --work-dir'
        ) from None
    except OSError as error:  # a network disk without locks
        warn(
            f"work dir '{path}' cannot be locked ({error.strerror}): see to it yourself "
            'that only one training writes there'
        )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    _locks[key] = file


def checkpoints_in(folder: str | os.PathLike) -> list[Path]:
    """What can be resumed in a folder, the newest by what names say first: clocks can go back."""
    found = {}
    for path in Path(folder).glob('*.pth'):
        name = RESUMABLE.fullmatch(path.name)
        if name and path.exists():  # and is no link to what has gone
            epoch, step, number = name.groups()
            found[path] = (int(number or epoch), int(step or 0))
    return sorted(found, key=found.__getitem__, reverse=True)


def check_no_earlier_run(path: str) -> None:
    """Raise a UserError where the checkpoints of a run would be lost."""
    found, left = checkpoints_in(path), left_by_run(path)
    if left:
        what = (
            f'{len(found)} checkpoints of another run (the newest: {found[0].name})'
            if found
            else f'{left[0].name} of another run'
        )
        raise UserError(
            f"work dir '{path}' holds {what}; go on from them with --resume, choose another folder "
            'with --work-dir, or delete them with --overwrite'
        )


def left_by_run(path: str | os.PathLike) -> list[Path]:
    """What tells that a training has been in a folder, the best and the latest checkpoint included;
    only ``last_checkpoint`` does where the config gives checkpoints names of its own."""
    best, last = Path(path).glob('best_*.pth'), Path(path).glob('last_checkpoint')
    return [*checkpoints_in(path), *best, *last]


def remove_earlier_run(path: str, keep: str | None) -> None:
    """Delete checkpoints, but for one that the new run starts from, so that none is taken for the
    new run's."""
    for old in left_by_run(path):
        if not (keep and old.exists() and osp.exists(keep) and osp.samefile(old, keep)):
            old.unlink()
