"""The study's runner, with trainings replaced by what they leave."""

import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import mmtlalign
from mmtlalign.errors import UserError

from ..tiny import ROOT

sys.path.insert(0, str(ROOT / 'projects/mini_study'))
import mini_study as study

HASHES = {}


def test_plan_has_every_run_once_and_pretraining_first():
    runs = Counter()
    for backbone in study.BACKBONES:
        for seed in range(6):
            pretrained = set()
            for job in study.plan(backbone, seed):
                runs[job.task, job.arm, backbone] += 1
                assert (ROOT / job.config).is_file(), job.config
                (weights,) = [option for option in job.options if 'init_cfg' in option] or ['']
                if job.task == 'cifar10':
                    pretrained.add(f'cifar10_{job.arm}')
                elif job.arm == 'random':
                    assert weights == 'model.backbone.init_cfg=None'
                else:
                    assert Path(weights).parent.name in pretrained
        for task, arms, times in (
            ('cifar10', ('tlalign', 'cutmix', 'none'), [6, 6, 2]),
            ('bccd', ('tlalign', 'cutmix', 'none', 'random'), [3, 3, 1, 1]),
            ('camvid', ('tlalign', 'cutmix', 'none', 'random'), [3, 3, 1, 1]),
        ):
            assert [runs[task, arm, backbone] for arm in arms] == times


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Trainings that end at once; `calls` lists them, `fail` stops one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'study')
    calls, fail, hash_of = [], set(), study.hash_of

    def hash_once(config, options):
        key = config, str(options)
        HASHES[key] = HASHES.get(key) or hash_of(config, options)
        return HASHES[key]

    monkeypatch.setattr(study, 'hash_of', hash_once)

    def run_tool(folder, tool, *command, show=None):
        if (folder.name, tool) in fail:
            raise UserError('killed')
        calls.append((folder.name, tool))
        rng = np.random.default_rng(len(calls))
        folder.mkdir(parents=True, exist_ok=True)
        used = folder / 'cpu_seconds'
        study.write(used, 10 + study.read_cpu_seconds(used))
        if tool == 'tools/test.py':
            Path(command[-1]).write_text(json.dumps(dict(draws=[0.5, 0.25])))
            return
        if tool.endswith('robustness.py'):
            found = dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0, seed=0)
            Path(command[-1]).write_text(json.dumps(found))
            return
        task = folder.name.split('_')[0]
        log = folder / '20260101_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        records = [{study.METRICS[task][0]: rng.random(), 'step': step} for step in (4, 8)]
        for value, epoch in ((0.1, 1), (0.3, 2), (0.2, 2)):
            records.append(dict(token_fluctuation=value, epoch=epoch, step=9))
        log.write_text('\n'.join(map(json.dumps, records)) + '\n{"token_fluct')
        (folder / 'last_checkpoint').write_text('elsewhere/epoch_32.pth')
        torch.save(dict(meta=dict(mmengine_version='1.2.3' + 40 * 'a')), folder / 'epoch_32.pth')

    monkeypatch.setattr(study, 'run_tool', run_tool)
    return calls, fail


def run(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['mini_study.py', *arguments])
    study.main()


@pytest.mark.slow
def test_a_stopped_unit_goes_on_and_a_written_one_is_left(fake, monkeypatch, tmp_path):
    calls, fail = fake
    fail.add(('bccd_none', 'tools/train.py'))
    one = ('--backbones', 'deit-mini', '--seeds', '0')
    with pytest.raises(UserError):
        run(monkeypatch, *one)
    assert not list((tmp_path / 'study').glob('*'))
    before = list(calls)
    fail.clear()
    run(monkeypatch, *one)
    assert calls[: len(before)] == before
    assert len(set(calls)) == len(calls)  # nothing was done twice
    trained = [name for name, tool in calls if tool == 'tools/train.py']
    assert len(trained) == 3 + 4 + 4
    run(monkeypatch, *one)
    assert len(set(calls)) == len(calls)
    unit = json.loads((tmp_path / 'study/deit-mini_seed0.json').read_text())
    assert set(unit['jobs']) == set(trained)
    job = unit['jobs']['cifar10_tlalign']
    assert job['curve'][-1] == [8, job['final']]
    assert job['cpu_seconds'] == 30
    assert job['robustness'] == dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0)
    assert job['fluctuation'] == [[1, 0.1], [2, 0.2]]
    assert job['redrawn'] == '0.50 0.25'
    assert unit['jobs']['bccd_none']['redrawn'] == '50.00 25.00'
    assert job['versions'] == dict(
        commit=40 * 'a', mmengine='1.2.3', mmtlalign=mmtlalign.__version__, torch=torch.__version__
    )
    hashes = {name: job['config_hash'] for name, job in unit['jobs'].items()}
    # arms of one task share a recipe, and pretraining arms do not
    assert hashes['bccd_tlalign'] == hashes['bccd_cutmix']
    assert hashes['cifar10_cutmix'] != hashes['cifar10_none']
    with pytest.raises(SystemExit, match='0'):
        run(monkeypatch, '--report')
    assert '\n| BCCD, box AP, % | deit-mini | ' in (tmp_path / 'study/report.md').read_text()
    assert (tmp_path / 'study/deit-mini.png').is_file()


BUSY = """
import time
print('eta: 1 day, 0:24:42  time: 1', flush=True)
while time.process_time() < 2: pass
"""


@pytest.mark.slow
def test_a_tool_runs_once_in_a_folder_and_says_how_long(tmp_path):
    tool, count = tmp_path / 'tool.py', tmp_path / 'cpu_seconds'
    tool.write_text(BUSY)
    study.write(count, 5)  # of a runner that was killed
    seen, counted = [], []

    def show(left):
        seen.append(left)
        counted.append(study.read_cpu_seconds(count))
        with pytest.raises(UserError, match='another process is at work in'):
            study.run_tool(tmp_path, tool)

    study.run_tool(tmp_path, tool, show=show)
    assert '1 day, 0:24:42' in seen
    assert counted == sorted(counted) and 5 <= counted[0] and 6 <= counted[-1] < 12
    next(study.count_cpu_seconds(count, os.getpid()))
    assert study.read_cpu_seconds(count) > counted[-1]


@pytest.mark.slow
def test_what_was_trained_by_another_recipe_is_refused(fake, monkeypatch):
    calls, fail = fake
    fail.add(('bccd_tlalign', 'tools/train.py'))
    one = ('--backbones', 'deit-mini', '--seeds', '0')
    with pytest.raises(UserError, match='killed'):
        run(monkeypatch, *one)
    monkeypatch.setattr(study, 'hash_of', lambda *_: 'other')
    said = r'cifar10_none was trained by another recipe \(\w{12}\) than .* is now \(other\)'
    with pytest.raises(UserError, match=said):
        run(monkeypatch, *one)
    with pytest.raises(SystemExit, match='2'):
        run(monkeypatch, '--seeds', '7')


@pytest.mark.slow
def test_a_tool_that_outlives_its_runner_or_fails(tmp_path):
    with open(tmp_path / 'output.txt', 'a') as output:
        fcntl.flock(output, fcntl.LOCK_EX)
        orphan = subprocess.Popen(['sleep', '60'], stdout=output)
    try:
        with pytest.raises(UserError, match='let it end or kill it'):
            study.run_tool(tmp_path, 'tools/train.py')
    finally:
        orphan.kill()
        orphan.wait()
    tool = tmp_path / 'tool.py'
    tool.write_text('raise SystemExit(3)')
    with pytest.raises(UserError, match='exit status 3: see .*output.txt'):
        study.run_tool(tmp_path, tool)
