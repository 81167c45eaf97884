"""The check of kernels on a GPU, rehearsed on a CPU."""

import json
import sys
from importlib import import_module

import pytest
import torch

from ..forked import run_forked
from ..tiny import ROOT, environment

FOLDER = ROOT / 'projects/gpu_check'


@pytest.mark.slow
def test_rehearsal(tmp_path):
    command = ['--rehearse', '--out', str(tmp_path)]
    done = run_forked(FOLDER / 'gpu_check.py', command, ROOT, environment(ROOT))
    assert done.returncode == 0, done.stderr
    tables = json.loads((tmp_path / 'gpu_check.json').read_text())
    page = (tmp_path / 'gpu_check.md').read_text()
    assert "A rehearsal on a CPU, in Triton's interpreter" in page
    assert set(tables) == {
        'Machine',
        'Errors against float64',
        'Errors of windows',
        'Forward and backward of attention',
        'Shares of windows',
        'Training steps',
        'Digits with --amp',
    }
    for title, rows in tables.items():
        assert f'## {title}' in page
        for row in rows:
            assert 'note' not in row or row.get('dtype') == 'fp16', row
    errors = tables['Errors against float64']
    assert {row['kernel'] for row in errors} >= {'triton', 'triton_flash', 'separate', 'padded'}
    assert all(row['share'] < 2e-6 for row in errors if row['kernel'].startswith('triton'))
    fp16, bf16 = tables['Digits with --amp']
    assert fp16['note'].startswith('skipped')
    assert 0 <= bf16['top1'] <= 100
    assert [row['compiled'] for row in tables['Training steps']] == [False, True]


@pytest.fixture
def gpu_check(monkeypatch):
    """The script, imported as it is run, without arguments."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, 'argv', ['gpu_check.py'])
    return import_module('gpu_check')


def test_what_fails_and_what_there_is_no_time_for_is_noted(gpu_check, tmp_path):
    for minutes, note in ((1, 'division by zero'), (-1, 'left out: no time left')):
        report = gpu_check.Report(minutes)
        report.add('Table', lambda: 1 / 0, kernel='a')
        report.write(tmp_path)
        rows = json.loads((tmp_path / 'gpu_check.json').read_text())['Table']
        assert len(rows) == 1 and rows[0]['kernel'] == 'a' and note in rows[0]['note']
        assert f'| a | {rows[0]["note"]} |' in (tmp_path / 'gpu_check.md').read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu(gpu_check, capsys):
    with pytest.raises(SystemExit, match='2'):
        gpu_check.main()
    assert capsys.readouterr().err == (
        'gpu_check: there is no CUDA device here; rehearse on a CPU with --rehearse.\n'
    )
