"""docs/reliability.md, out of the results."""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import mmpretrain
import torch

import mmtlalign

PAGE = """# Reliability

What was tried against the commands, and what came of it: trainings killed at
random times, inputs that are wrong, files that would run something. Made by

    python projects/reliability/run.py

which goes on where it stopped; the inputs are listed in
[its folder](../projects/reliability/README.md). Measured with mmtlalign {version},
torch {torch}, Python {python}, on a CPU.

Beside it, the same against stock mmpretrain {stock}, on a stock config (the same ViT,
CutMix instead of TL-Align): its `train.py`, `test.py`, `publish_model.py`,
`analyze_logs.py` and `get_model`, and mmengine's readers. Every case that means the same to
them was tried; the last column counts the others. They promise neither one line for an
error nor that data run nothing: their column says what they do, not that they break a word.

| as it should be | ours | stock | not for stock |
|---|---:|---:|---:|
{table}
{notes}
## Faults of the hosts

What cannot be mended from here is listed with its source: [host_faults.md](host_faults.md).
"""
KILLS = """
## Kills

A training of some seconds per task (`num_workers=0`, a checkpoint every epoch or
second iteration) gets SIGKILL at a time drawn from when its first checkpoint would be
there to its end, and is given again with `--resume`. *As it should be*: status 0,
and weights, optimizer and schedules of the last checkpoint equal to the bit those of a
training that nobody has killed. {early} of the {count} kills came before the first
checkpoint all the same, so that resuming began anew. Stock mmpretrain, which saves no
random state, went on to the end in {ended} of {theirs}; {fresh} had left no checkpoint, so that
beginning anew could only be equal.
"""
INPUTS = """
## Wrong inputs

Files that are missing, empty, cut short, of the wrong type or not UTF-8, values out
of range or of another type, damaged annotations, label maps and token labels, for
every command that reads them. *As it should be*: a status other than 0, and one
line on standard error that names the file or entry, without a trace (after the usage, for
wrong arguments).
"""
CODE = """
## Hostile files

Checkpoints, configs in YAML and JSON, lists, token labels, images, annotations,
logs and metafiles, each of which names something to run, given to every entry point that
reads its kind; a test holds the list of these against the code, and tries one file on each.
*As it should be*: nothing was run. Beside them, files of each kind that is allowed,
and trainings begun by mmengine's own runner for the three tasks, all of which must be read.
What is data and what is code: [SECURITY.md](../SECURITY.md).
"""


def goes_on(one: dict) -> bool:
    return one['identical'] and one['status'] == 0


# A part of the results, a row of the table, how its cases' names begin, which are right.
ROWS: list[tuple[str, str, str, Callable[[dict], bool]]] = [
    ('kills', 'kills, classification', 'classification', goes_on),
    ('kills', 'kills, detection', 'detection', goes_on),
    ('kills', 'kills, segmentation', 'segmentation', goes_on),
    ('inputs', 'wrong inputs, one clear line', '', lambda one: one['clear']),
    ('inputs', 'wrong inputs, refused', '', lambda one: one['status'] != 0),
    ('executions', 'hostile files, nothing run', '', lambda one: not one['executed']),
    ('sound', 'allowed files, read', '', lambda one: one['status'] == 0),
]


def write_page(results: Path, page: Path) -> None:
    """Write what has been measured, and nothing about the rest.

    Args:
        results (Path): Folder of the parts' lines of JSON, those of stock in ``stock``.
        page (Path): To write.
    """
    ours, stock = read(results), read(results / 'stock')
    table, wrong = '', {part: [] for part in ours}
    for part, what, begin, right in ROWS:
        found, theirs = (
            [one for one in side[part] if one['name'].startswith(begin)] for side in (ours, stock)
        )
        same = [one for one in theirs if 'applies' not in one]
        left = len(theirs) - len(same)
        table += f'| {what} | {tally(right, found)} | {tally(right, same)} | {left} |\n'
        wrong[part] += [one['name'] for one in found if not right(one)]
    killed = [one for one in stock['kills'] if 'applies' not in one]
    kills = KILLS.format(
        early=sum(not kill['left'] for kill in ours['kills']),
        count=len(ours['kills']),
        theirs=len(killed),
        ended=sum(kill['status'] == 0 for kill in killed),
        fresh=sum(not kill['left'] for kill in killed),
    )
    notes = dict(kills=kills, inputs=INPUTS, executions=CODE, sound='')
    page.write_text(
        PAGE.format(
            version=mmtlalign.__version__,
            stock=mmpretrain.__version__,
            torch=torch.__version__.partition('+')[0],
            python=platform.python_version(),
            table=table,
            notes=''.join(note + tell(wrong[part]) for part, note in notes.items()),
        )
    )


def tally(right: Callable[[dict], bool], cases: list[dict]) -> str:
    """How many are right."""
    return f'{sum(map(right, cases))} of {len(cases)}' if cases else '-'


def tell(names: list[str]) -> str:
    """A list of cases, if there are any."""
    lines = [f'- `{name}`\n' for name in dict.fromkeys(names)]
    return '\nNot so:\n\n' + ''.join(lines) if lines else ''


def read(folder: Path) -> dict[str, list[dict]]:
    """What each part has measured so far."""
    parts = {part: folder / f'{part}.jsonl' for part in ('kills', 'inputs', 'executions', 'sound')}
    return {
        part: [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        for part, path in parts.items()
    }
