"""mim, from the editable installation that the tests run in."""

import sys
from pathlib import Path

import pytest

from ..tiny import ROOT, environment, run_forked, write_project


@pytest.mark.slow
def test_mim_trains_tests_and_searches(tmp_path, monkeypatch):
    """Here; what it starts begins as a fork."""
    mim = pytest.importorskip(
        'mim.__main__', reason='mim is not installed; run `bash tools/setup_env.sh --dev`'
    )
    from click.testing import CliRunner

    config, checkpoint = str(write_project(tmp_path)), 'work_dirs/tiny/epoch_3.pth'
    said = []

    def start(command, env=None):
        _, script, *arguments = command
        process = run_forked(Path(script), arguments, tmp_path, environment(tmp_path))
        assert process.returncode == 0, process.stdout + process.stderr
        said.append(process.stdout)
        return 0

    monkeypatch.setattr('subprocess.check_call', start)
    monkeypatch.setattr(
        'subprocess.check_output', lambda command: start(command) or said[-1].encode()
    )
    # the checkout would hide that it is installed
    monkeypatch.setattr(
        sys, 'path', [path for path in sys.path if Path(path).resolve() != ROOT.resolve()]
    )
    monkeypatch.chdir(tmp_path)
    for arguments, expected in (
        (['train', config, '--gpus', '0', '--no-report'], 'Training finished successfully'),
        (['test', config, '--checkpoint', checkpoint, '--gpus', '0'], 'Testing finished'),
        (['search', '--config', 'tlalign_deit-digits_1xb32_digits'], 'zoo/tlalign_de'),
    ):
        command, *rest = arguments
        done = CliRunner().invoke(mim.cli, [command, 'mmtlalign', *rest])
        assert done.exit_code == 0 and expected in done.output, done.output
    assert 'accuracy/top1: ' in said[-1]
