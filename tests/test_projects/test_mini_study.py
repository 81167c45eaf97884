"""The study's runner, with trainings replaced by what they leave."""

import fcntl
import importlib.util
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import mmtlalign
from mmtlalign.errors import UserError

from ..tiny import ROOT


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


study = load('projects/mini_study/mini_study.py')
study_report = load('projects/mini_study/study_report.py')


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
    for backbone in study.BACKBONES:
        assert [runs['cifar10', arm, backbone] for arm in ('tlalign', 'cutmix', 'none')] == [
            6,
            6,
            2,
        ]
        for task in ('bccd', 'camvid'):
            assert [
                runs[task, arm, backbone] for arm in ('tlalign', 'cutmix', 'none', 'random')
            ] == [3, 3, 1, 1]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Trainings that end at once; `calls` lists them, `fail` stops one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'study')
    calls, fail = [], set()

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
            Path(command[-1]).write_text(
                json.dumps(
                    dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0, seed=0)
                )
            )
            return
        task = folder.name.split('_')[0]
        log = folder / '20260101_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(
            ''.join(
                json.dumps({study.METRICS[task][0]: rng.random(), 'step': step}) + '\n'
                for step in (4, 8)
            )
            + ''.join(
                json.dumps(dict(token_fluctuation=value, epoch=epoch, step=9)) + '\n'
                for epoch, value in ((1, 0.1), (2, 0.3), (2, 0.2))
            )
            + '{"token_fluct'
        )
        (folder / 'last_checkpoint').write_text('elsewhere/epoch_32.pth')
        torch.save(dict(meta=dict(mmengine_version='1.2.3' + 40 * 'a')), folder / 'epoch_32.pth')

    monkeypatch.setattr(study, 'run_tool', run_tool)
    return calls, fail


def run(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['mini_study.py', *arguments])
    study.main()


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


def test_a_tool_runs_once_in_a_folder_and_says_how_long(tmp_path):
    tool, seen = tmp_path / 'tool.py', []
    tool.write_text(
        "import time\nprint('eta: 1 day, 0:24:42  time: 1', flush=True)\ntime.sleep(3)\n"
    )

    def show(left):
        seen.append(left)
        with pytest.raises(UserError, match='another process is at work in'):
            study.run_tool(tmp_path, tool)

    study.run_tool(tmp_path, tool, show=show)
    assert '1 day, 0:24:42' in seen
    tool.write_text('raise SystemExit(3)')
    with pytest.raises(UserError, match='exit status 3: see .*output.txt'):
        study.run_tool(tmp_path, tool)


def test_cpu_time_is_counted_while_a_tool_runs_and_over_kills(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text(
        'import time\nend = time.process_time() + 2\nwhile time.process_time() < end: pass\n'
    )
    counted = []
    for _ in range(2):
        study.run_tool(
            tmp_path,
            tool,
            show=lambda left: counted.append(study.read_cpu_seconds(tmp_path / 'cpu_seconds')),
        )
    assert counted == sorted(counted) and counted[0] < 2 <= counted[-1] < 9
    # a runner that is killed has noted what was used so far
    next(study.count_cpu_seconds(tmp_path / 'cpu_seconds', os.getpid()))
    assert study.read_cpu_seconds(tmp_path / 'cpu_seconds') > counted[-1]


def test_what_was_trained_by_another_recipe_is_refused(fake, monkeypatch):
    calls, fail = fake
    fail.add(('bccd_tlalign', 'tools/train.py'))
    one = ('--backbones', 'deit-mini', '--seeds', '0')
    with pytest.raises(UserError, match='killed'):
        run(monkeypatch, *one)
    monkeypatch.setattr(study, 'hash_of', lambda *_: 'other')
    with pytest.raises(
        UserError,
        match='cifar10_none was trained by another '
        r'recipe \(\w{12}\) than .* is now \(other\)',
    ):
        run(monkeypatch, *one)
    with pytest.raises(SystemExit, match='2'):
        run(monkeypatch, '--seeds', '7')


def test_a_tool_that_outlives_its_runner_keeps_its_folder(tmp_path):
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
    tool.write_text('')
    study.run_tool(tmp_path, tool)
