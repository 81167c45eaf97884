"""Files that are whole, or not there: never half of one under its name."""

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend

from mmtlalign.errors import UserError

# Errors that are the disk's, not those of whoever writes.
OF_THE_DISK = {
    getattr(errno, name)
    for name in 'EACCES EDQUOT EFBIG EIO ENAMETOOLONG ENOSPC EPERM EROFS ESTALE'.split()
}


@contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file under another name, which is yielded and has the same folder and suffix, and
    rename it when it is whole: what was there is replaced at once, or stays if writing fails.

    Raises:
        UserError: If the disk is full or cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f'.{path.stem[:100]}.{os.getpid()}{path.suffix}')
    try:
        yield beside
        with open(beside, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        raise UserError(
            f"'{path}' cannot be written ({os.strerror(error.errno)}); free some space or write "
            'elsewhere: what was there before is as it was'
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a text or bytes; see :func:`written_beside`."""
    content = content.encode() if isinstance(content, str) else content
    with written_beside(path) as beside:
        beside.write_bytes(content)


def save_whole(data, path: str | os.PathLike) -> None:
    """``torch.save``, which ends the process if it meets a full disk itself;
    see :func:`written_beside`."""
    file = io.BytesIO()
    torch.save(data, file)
    write_whole(path, file.getbuffer())


def check_space(folder: str | os.PathLike, size: float, what: str, option: str) -> None:
    """Raise a UserError if the disk of a folder has less bytes than will be needed, and name what
    needs them, in the plural, and the option that names another folder."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"'{folder}' has room for {free / 2**20:.0f} MiB, and {what} need "
            f'{size / 2**20:.0f}; free some, or choose another folder with {option}'
        )


class WholeFileBackend(LocalBackend):
    """What the hosts write through mmengine is whole, too."""

    def put(self, obj: bytes, filepath) -> None:
        os.makedirs(os.path.dirname(filepath) or '.', exist_ok=True)
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


def let_hosts_write_whole_files() -> None:
    """Take the place of mmengine's way to write to the disk."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')
