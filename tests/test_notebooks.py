"""The notebooks of docs/ run from top to bottom, and are kept without outputs."""

import json
import subprocess

import pytest

from .conftest import ROOT
from .tiny import environment, run_forked

NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
FEW = ['train_dataloader.dataset.indices=16', 'val_dataloader.dataset.indices=8']


def code_of(notebook):
    """Its cells of code."""
    cells = json.loads(notebook.read_text())['cells']
    return [cell for cell in cells if cell['cell_type'] == 'code']


@pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_in_git(notebook):
    code = code_of(notebook)
    assert code and all(not c['outputs'] and c['execution_count'] is None for c in code)


@pytest.fixture
def run_cells(tmp_path, monkeypatch, capsys):
    """Run a notebook here; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')

    def run(name):
        cells = code_of(ROOT / f'docs/notebooks/{name}.ipynb')
        exec('\n'.join(''.join(cell['source']) for cell in cells), {})
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_own_loop_learns_digits(run_cells):
    pytest.importorskip('timm')
    said = run_cells('own_loop')
    accuracy = float(said[: said.index(' % of 360')].split()[-1])
    assert accuracy > 85
    assert 'area' in said and 'aligned label' in said


@pytest.mark.slow
def test_pretraining_ends_in_a_detector(run_cells, tmp_path, monkeypatch):
    """Its commands begin as forks, and see less data."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmcv._ext')
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    (tmp_path / 'command.py').write_text('from mmtlalign.__main__ import main\n\nmain()\n')

    def run(command, **_):
        words = command[1:] if command[1] != '-m' else ['command.py', *command[3:]]
        if 'train' in words:
            words += [*FEW, '--no-report']
        elif 'make_digit_scenes' in words[0]:
            words += ['--train', '16', '--val', '8']
        return run_forked(tmp_path / words[0], words[1:], tmp_path, environment(tmp_path))

    monkeypatch.setattr(subprocess, 'run', run)
    monkeypatch.setenv('EPOCHS', '2')
    said = run_cells('pretraining_to_detector')
    assert 0 <= float(said.rpartition('held-out scenes: ')[2]) <= 1
