"""What docs/scaling.md shows: run, or recomputed."""

import re

import pytest

from mmtlalign import get_model

from ..tiny import ROOT, run

PAGE = (ROOT / 'docs/scaling.md').read_text()


def block(language):
    (text,) = re.findall(rf'^```{language}\n(.*?)^```$', PAGE, flags=re.DOTALL | re.MULTILINE)
    return text


@pytest.mark.parametrize('status, left, requeued', [(0, 0, 0), (1, 1, 0), (138, 0, 1), (143, 0, 1)])
def test_a_job_is_requeued_by_its_exit_code(tmp_path, status, left, requeued):
    """Stand-ins for Slurm: srun ends with what its task does."""
    for name, text in (('srun', f'exit {status}'), ('scontrol', 'echo "$@"')):
        (tmp_path / name).write_text(f'#!/bin/sh\n{text}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'job.sh').write_text(block('bash'))
    done = run(
        ['bash', '-c', 'PATH="$PWD:$PATH" exec bash job.sh'],
        tmp_path,
        CONFIG='a.py',
        WORK_DIR='work',
        SLURM_JOB_ID='7',
    )
    assert (done.returncode, done.stdout) == (left, 'requeue 7\n' * requeued)


def test_figures_follow_from_the_functions():
    names = {}
    exec(block('python'), names)
    deit = get_model('tlalign_deit-small_8xb128_in1k')
    weights, unit = (
        sum(weight.numel() for weight in module.parameters())
        for module in (deit, deit.backbone.layers[0])
    )
    assert f'{weights / 1e6:.2f} million weights, {unit / 1e6:.2f} million in a layer' in PAGE
    told = re.search(
        r'DDP holds (\d+) MB\s+a device and sends (\d+) MB a step; `--fsdp` holds (\d+) MB and '
        r'sends (\d+) MB',
        PAGE,
    )
    expected = (
        names['held'](weights, 16),
        names['sent'](weights, 16),
        names['held'](weights, 16, unit, sharded=True),
        names['sent'](weights, 16, sharded=True),
    )
    assert [int(figure) for figure in told.groups()] == [round(e / 1e6) for e in expected]
