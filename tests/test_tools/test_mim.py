"""mim, from the editable installation that the tests run in."""

import sys

import pytest

from ..tiny import run, write_project

pytest.importorskip('mim', reason='mim is not installed; run `bash tools/setup_env.sh --dev`')


def test_mim_trains_tests_and_searches(tmp_path):
    config = tmp_path / write_project(tmp_path).name

    def mim(*arguments):
        # the checkout on PYTHONPATH would hide that it is installed
        process = run([sys.executable, '-m', 'mim', *arguments], tmp_path, PYTHONPATH=str(tmp_path))
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    assert 'Training finished successfully' in mim('train', 'mmtlalign', config, '--gpus', '0')
    assert 'accuracy/top1: ' in mim(
        'test', 'mmtlalign', config, '--checkpoint', 'work_dirs/tiny/epoch_3.pth', '--gpus', '0'
    )
    assert 'zoo/tlalign_de' in mim(
        'search', 'mmtlalign', '--config', 'tlalign_deit-digits_1xb32_digits'
    )
