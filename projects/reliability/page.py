"""docs/reliability.md, out of the results."""

import json
import platform
from pathlib import Path

import torch

import mmtlalign

PAGE = """# Reliability

What was tried against the commands, and what came of it: trainings killed at
random times, inputs that are wrong, files that would run something. Made by

    python projects/reliability/run.py

which goes on where it stopped; the inputs are listed in
[its folder](../projects/reliability/README.md). Measured with mmtlalign {version},
torch {torch}, Python {python}, on a CPU.

| tried | times | as it should be |
|---|---:|---:|
{table}
{notes}"""
KILLS = """
## Kills

A training of some seconds per task (`num_workers=0`, a checkpoint every epoch or
second iteration) gets SIGKILL at a time drawn from when its first checkpoint would be
there to its end, and is given again with `--resume`. *As it should be*: status 0,
and weights, optimizer and schedules of the last checkpoint equal to the bit those of a
training that nobody has killed. {early} of the {count} kills came before the first
checkpoint all the same, so that resuming began anew.
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
logs and metafiles, each of which names something to run, shared out among all entry
points that read their kind; a test holds the list of these against the code, and tries
each file once. *As it should be*: nothing was run. Beside them, files of each kind
that is allowed, and trainings begun by mmengine's own runner for the three tasks, all
of which must be read. What is data and what is code: [SECURITY.md](../SECURITY.md).
"""


def write_page(results: Path, page: Path) -> None:
    """Write what has been measured, and nothing about the rest.

    Args:
        results (Path): Folder of the parts' lines of JSON.
        page (Path): To write.
    """
    rows, notes = [], []
    if kills := read(results / 'kills.jsonl'):
        for task in ('classification', 'detection', 'segmentation'):
            those = [kill for kill in kills if kill['name'].startswith(task)]
            right = sum(kill['identical'] and kill['status'] == 0 for kill in those)
            rows.append((f'kills, {task}', len(those), right))
        early = sum(not kill['left'] for kill in kills)
        notes.append(KILLS.format(early=early, count=len(kills)))
    if inputs := read(results / 'inputs.jsonl'):
        rows.append(('wrong inputs', len(inputs), sum(one['clear'] for one in inputs)))
        notes.append(INPUTS + tell('Not so:', [one for one in inputs if not one['clear']]))
    if hostile := read(results / 'executions.jsonl'):
        rows.append(('hostile files', len(hostile), sum(not one['executed'] for one in hostile)))
        notes.append(CODE + tell('Executed:', [one for one in hostile if one['executed']]))
    if sound := read(results / 'sound.jsonl'):
        rows.append(('allowed files', len(sound), sum(one['status'] == 0 for one in sound)))
        notes.append(tell('Not read:', [one for one in sound if one['status']]))
    page.write_text(
        PAGE.format(
            version=mmtlalign.__version__,
            torch=torch.__version__.partition('+')[0],
            python=platform.python_version(),
            table=''.join(f'| {what} | {count} | {right} |\n' for what, count, right in rows),
            notes=''.join(notes),
        )
    )


def tell(title: str, cases: list[dict]) -> str:
    """A list of cases, if there are any."""
    return f'\n{title}\n\n' + ''.join(f'- `{case["name"]}`\n' for case in cases) if cases else ''


def read(path: Path) -> list[dict]:
    """What a part has measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
