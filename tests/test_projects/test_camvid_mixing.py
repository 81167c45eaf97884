"""The runner of CutMix for segmentation, with trainings replaced."""

import json
import re
import sys

import numpy as np
import pytest
from mmengine.config import Config

from mmtlalign.errors import UserError

from ..tiny import ROOT

sys.path.insert(0, str(ROOT / 'projects/mini_study'))
import camvid_mixing as study


@pytest.fixture(autouse=True)
def results(monkeypatch, tmp_path):
    """Go elsewhere."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'results')


def test_plan_starts_every_arm_from_the_same_weights(monkeypatch, tmp_path):
    for backbone in study.SEGMENTERS:
        jobs = study.plan(backbone)
        assert [job.arm for job in jobs] == list(study.ARMS)
        assert len({str(job.options) for job in jobs}) == 1
        weights = jobs[0].options[0].split('=')[1]
        assert (ROOT / weights).is_file() and backbone in weights
        for job in jobs:
            assert backbone in job.config
            assert Config.fromfile(ROOT / job.config).train_cfg.max_iters
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='run this from the root'):
        study.plan('deit-mini')


@pytest.fixture
def trained(monkeypatch):
    """Every training ends at once; which did."""
    calls = []

    def run_job(job, folder, seed, show):
        calls.append((job.arm, str(folder), seed))
        final = 20 + 2 * study.ARMS.index(job.arm) + seed * (1 + study.ARMS.index(job.arm)) / 10
        return dict(dict.fromkeys(study.KEPT), final=final, redrawn='1 ' * 999)

    monkeypatch.setattr(study, 'run_job', run_job)
    return calls


def run(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['camvid_mixing.py', *args])
    study.main()


def test_units_that_have_ended_are_not_trained_again(trained, monkeypatch):
    run(monkeypatch, '--backbones', 'deit-mini', '--seeds', '0', '1')
    assert [(arm, seed) for arm, _, seed in trained] == [
        (arm, seed) for seed in (0, 1) for arm in study.ARMS
    ]
    assert len({folder for _, folder, _ in trained}) == 6
    run(monkeypatch, '--seeds', '0')
    assert [folder.split('/')[-2] for _, folder, _ in trained[6:]] == ['swin-mini_seed0'] * 3
    for path in study.RESULTS.iterdir():
        unit = json.loads(path.read_text())
        assert set(unit['arms']) == set(study.ARMS)
        assert path.stat().st_size < 2000


def test_report(trained, monkeypatch):
    run(monkeypatch, '--backbones', 'swin-mini')
    row = study.report().splitlines()[-1]
    seeds = np.arange(6) / 10
    for i in range(3):
        finals = 20 + 2 * i + (1 + i) * seeds
        assert f'{finals.mean():.2f} ± {finals.std(ddof=1):.2f} (6)' in row
    gaps = 2 + seeds
    half = 2.5706 * gaps.std(ddof=1) / 6**0.5  # t of 5 degrees of freedom
    assert re.search(rf'\+{gaps.mean():.2f} ± {half:.2f} \| \+', row)
    assert 'deit-mini' not in study.report()


def test_smoke_takes_two_steps_of_every_arm(monkeypatch):
    calls = []
    monkeypatch.setattr(
        study, 'run_tool', lambda folder, *command: calls.append(' '.join(map(str, command)))
    )
    run(monkeypatch, '--smoke', '--backbones', 'deit-mini')
    assert len(calls) == 3
    assert all('train_cfg.max_iters=2' in call for call in calls)
    assert not study.RESULTS.exists()
