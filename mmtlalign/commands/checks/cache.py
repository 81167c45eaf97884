"""What has been found about data that are still the same."""

import hashlib
import json
import os
import os.path as osp
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

from .findings import Findings

FORMAT = 3  # to be raised when a check looks at more


def remembered(question: dict, look: Callable[[], Findings]) -> Findings:
    """What a look gives, without looking if it has been done on these files.

    Answers lie in the user's cache, as data may be read-only and work dirs
    new: ``$XDG_CACHE_HOME/mmtlalign/checks``, by default in ``~/.cache``.
    One counts as long as all files and folders that it depends on have the
    path, size and time of change they had, and the question, which is all else
    that the answer depends on, is the same. Errors are never kept.
    """
    path = _path(question)
    found = _recall(path)
    if found is None:
        found = look()
        _keep(path, found)
    return found


def _path(question: dict) -> Path:
    text = json.dumps([FORMAT, os.getcwd(), question], sort_keys=True, default=str)
    folder = os.environ.get('XDG_CACHE_HOME') or osp.expanduser('~/.cache')
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Path(folder, 'mmtlalign', 'checks', f'{name}.json')


def _recall(path: Path) -> Findings | None:
    try:
        content = json.loads(path.read_text())
        found = Findings(**content['found'])
        same = content['stats'] == [_stat(file) for file in found.files]
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return found if same else None


def _keep(path: Path, found: Findings) -> None:
    """Write it in one go; where that is impossible, it is found again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path, json.dumps(dict(found=asdict(found), stats=list(map(_stat, found.files))))
        )
    except (OSError, UserError):
        pass


def _stat(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns]
