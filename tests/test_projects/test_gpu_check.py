"""The check of kernels on a GPU, rehearsed on a CPU."""

import json
import subprocess
import sys

import pytest
import torch

from ..tiny import ROOT

SCRIPT = ROOT / 'projects/gpu_check/gpu_check.py'


def run(*args):
    return subprocess.run([sys.executable, SCRIPT, *args], text=True, capture_output=True, cwd=ROOT)


@pytest.mark.slow
def test_rehearsal(tmp_path):
    done = run('--rehearse', '--out', str(tmp_path))
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
            assert 'note' not in row or row.get('dtype') == 'float16', row
    errors = tables['Errors against float64']
    assert {row['kernel'] for row in errors} >= {'triton', 'triton_flash', 'separate', 'padded'}
    assert all(row['share'] < 2e-6 for row in errors if row['kernel'].startswith('triton'))
    fp16, bf16 = tables['Digits with --amp']
    assert fp16['note'].startswith('skipped')
    assert 0 <= bf16['top1'] <= 100
    assert [row['compiled'] for row in tables['Training steps']] == [False, True]


@pytest.mark.slow
def test_no_time_left(tmp_path):
    done = run('--rehearse', '--minutes', '0', '--out', str(tmp_path))
    assert done.returncode == 0, done.stderr
    tables = json.loads((tmp_path / 'gpu_check.json').read_text())
    assert all(row['note'] == 'left out: no time left' for rows in tables.values() for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu():
    done = run()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        'gpu_check: there is no CUDA device here; rehearse on a CPU with --rehearse.'
    )
