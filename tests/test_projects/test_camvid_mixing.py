"""The runner of CutMix for segmentation, with trainings replaced."""

import json
import re
import sys

import camvid_mixing as study
import numpy as np
import pytest
from mmengine.config import Config

from mmtlalign.errors import UserError

from ..tiny import ROOT


@pytest.fixture(autouse=True)
def ended(monkeypatch, tmp_path):
    """Arm, folder and seed of every training, all of which end at once; results go elsewhere."""
    calls = []

    def run_job(job, folder, seed):
        calls.append((job.arm, str(folder), seed))
        arm = study.ARMS.index(job.arm)
        return dict(dict.fromkeys(study.KEPT), final=20 + 2 * arm + seed * (1 + arm) / 10, more=1)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'results')
    monkeypatch.setattr(study, 'run_job', run_job)
    return calls


def run(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['camvid_mixing.py', *args])
    study.main()


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


def test_units_that_have_ended_are_not_trained_again_and_are_reported(ended, monkeypatch, capsys):
    run(monkeypatch, '--backbones', 'swin-mini', '--seeds', '0', '1')
    pairs = [(arm, seed) for seed in (0, 1) for arm in study.ARMS]
    assert [(arm, seed) for arm, _, seed in ended] == pairs
    assert len({folder for _, folder, _ in ended}) == 6
    run(monkeypatch, '--backbones', 'swin-mini')
    assert [seed for *_, seed in ended[6:]] == sorted([2, 3, 4, 5] * 3)
    for path in study.RESULTS.iterdir():
        arms = json.loads(path.read_text())['arms']
        assert set(arms) == set(study.ARMS) and set(arms['none']) == set(study.KEPT)
    capsys.readouterr()
    run(monkeypatch, '--report')
    text = capsys.readouterr().out
    row, seeds = text.splitlines()[-1], np.arange(6) / 10
    for i in range(3):
        finals = 20 + 2 * i + (1 + i) * seeds
        assert f'{finals.mean():.2f} ± {finals.std(ddof=1):.2f} (6)' in row
    gaps = 2 + seeds
    half = 2.5706 * gaps.std(ddof=1) / 6**0.5  # t of 5 degrees of freedom
    assert re.search(rf'\+{gaps.mean():.2f} ± {half:.2f} \| \+', row)
    assert 'deit-mini' not in text


def test_smoke_takes_two_steps_of_every_arm(monkeypatch):
    calls = []
    monkeypatch.setattr(study, 'run_tool', lambda *words: calls.append(' '.join(map(str, words))))
    run(monkeypatch, '--smoke', '--backbones', 'deit-mini')
    assert len(calls) == 3 and all('train_cfg.max_iters=2' in call for call in calls)
    assert not study.RESULTS.exists()
