"""A training that takes a second, and a way to run the tools on it."""

import os
import subprocess
import sys
from pathlib import Path

from projects.reliability.tasks import CLASSIFIER as CONFIG
from projects.reliability.tasks import write_classes

from .forked import run_forked

ROOT = Path(__file__).resolve().parents[1]


def write_project(folder: Path, extra: str = '') -> Path:
    """Write 12 random images of 3 classes and the config; return its path."""
    write_classes(folder)
    config = folder / 'tiny.py'
    config.write_text(CONFIG + extra)
    return config


def run(command: list, folder: Path, **env: str):
    """Run a command in a folder; return its finished process, with text."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
    )


def environment(folder: Path, **env: str) -> dict[str, str]:
    """Of a command: this checkout and that folder can be imported."""
    return {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}',
        **env,
    }


def run_tool(name: str, *arguments, folder: Path, report: bool = False, **env: str):
    """Run ``tools/<name>`` in a folder; a training without its report, which
    takes longer than such a training, unless asked for.

    Where a variable is given, which libraries may read while they are imported,
    in a new interpreter; else in a fork of one that has them.
    """
    arguments = without_report(name, *arguments) if not report else arguments
    script = ROOT / 'tools' / name
    if env:
        return run([sys.executable, script, *arguments], folder, **env)
    return run_forked(script, [str(word) for word in arguments], folder, environment(folder))


def without_report(name: str, *arguments) -> tuple:
    """The arguments of a tool, and that a training is to leave no report."""
    return (*arguments, *['--no-report'] * (name == 'train.py'))
