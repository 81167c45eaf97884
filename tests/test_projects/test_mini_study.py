"""The study's runner, with trainings replaced by what they leave."""

import json
import os
import signal
from collections import Counter
from itertools import product
from pathlib import Path

import mini_study as study
import pytest
import study_report
import torch
from trainings import read_cpu_seconds

import mmtlalign
from mmtlalign.errors import UserError

from ..tiny import ROOT


def test_plan_has_every_run_once_and_pretraining_first():
    runs = Counter()
    for backbone, seed in product(study.BACKBONES, range(6)):
        starts = {'random': 'None'}
        for job in study.plan(backbone, seed):
            runs[job.task, job.arm, backbone] += 1
            assert (ROOT / job.config).is_file(), job.config
            if job.task == 'cifar10':
                weights = f'{study.unit_dir(backbone, seed)}/{job.name}/epoch_128.pth'
                starts[job.arm] = weights
                assert not job.options
            else:
                (option,) = job.options
                assert option.startswith('model.backbone.init_cfg')
                assert option.partition('=')[2] == starts[job.arm]
    dense = dict(tlalign=3, cutmix=3, none=1, random=1)
    times = dict(cifar10=dict(tlalign=6, cutmix=6, none=2), bccd=dense, camvid=dense)
    assert runs == {
        (task, arm, backbone): count
        for backbone in study.BACKBONES
        for task, arms in times.items()
        for arm, count in arms.items()
    }


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """Trainings that end at once: those that did; and which fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'study')
    calls, fail = [], set()

    def run_tool(folder, tool, *command, show=None):
        if (folder.name, tool) in fail:
            raise UserError('killed')
        calls.append((folder.name, tool))
        folder.mkdir(parents=True, exist_ok=True)
        used = folder / 'cpu_seconds'
        study.write(used, 10 + read_cpu_seconds(used))
        if tool == 'tools/train.py':
            leave_training(folder, study.METRICS[folder.name.split('_')[0]][0])
            return
        found = dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0, seed=0)
        Path(command[-1]).write_text(json.dumps(dict(found, draws=[0.5, 0.25])))

    monkeypatch.setattr(study, 'run_tool', run_tool)
    return calls, fail


def leave_training(folder, metric):
    log = folder / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    records = [{metric: step / 9, 'step': step} for step in (4, 8)]
    for value, epoch in ((0.1, 1), (0.3, 2), (0.2, 2)):
        records.append(dict(token_fluctuation=value, epoch=epoch, step=9))
    log.write_text('\n'.join(map(json.dumps, records)) + '\n{"token_fluct')
    (folder / 'last_checkpoint').write_text('elsewhere/epoch_32.pth')
    torch.save(dict(meta=dict(mmengine_version='1.2.3' + 40 * 'a')), folder / 'epoch_32.pth')


@pytest.mark.slow
def test_a_stopped_unit_goes_on_and_a_written_one_is_left(tools, monkeypatch, tmp_path):
    calls, fail = tools

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['mini_study.py', *arguments])
        study.main()

    one = ('--backbones', 'deit-mini', '--seeds', '0')
    fail.add(('bccd_none', 'tools/train.py'))
    with pytest.raises(UserError, match='killed'):
        run(*one)
    assert not list((tmp_path / 'study').glob('*'))
    said = r'cifar10_none was trained by another recipe \(\w{12}\) than .* is now \(other\)'
    with monkeypatch.context() as patch, pytest.raises(UserError, match=said):
        patch.setattr(study, 'hash_of', lambda *_: 'other')
        run(*one)
    fail.clear()
    run(*one)
    assert len(set(calls)) == len(calls)  # nothing was done twice
    trained = [name for name, tool in calls if tool == 'tools/train.py']
    assert len(trained) == 3 + 4 + 4
    run(*one)
    assert len(set(calls)) == len(calls)
    unit = json.loads((tmp_path / 'study/deit-mini_seed0.json').read_text())
    assert set(unit['jobs']) == set(trained)
    job = unit['jobs']['cifar10_tlalign']
    assert job['curve'] == [[4, 0.4444], [8, job['final']]]
    assert job['cpu_seconds'] == 30
    assert job['robustness'] == dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0)
    assert job['fluctuation'] == [[1, 0.1], [2, 0.2]]
    assert job['redrawn'] == '0.50 0.25'
    assert unit['jobs']['bccd_none']['redrawn'] == '50.00 25.00'
    assert job['versions'] == dict(
        commit=40 * 'a', mmengine='1.2.3', mmtlalign=mmtlalign.__version__, torch=torch.__version__
    )
    recipes = {name: job['config_hash'] for name, job in unit['jobs'].items()}
    # arms of one task share a recipe, and pretraining arms do not
    assert recipes['bccd_tlalign'] == recipes['bccd_cutmix']
    assert recipes['cifar10_cutmix'] != recipes['cifar10_none']
    monkeypatch.setattr(study_report, 'draw', lambda *_: study_report.plt.figure())
    run('--report')
    assert '\n| BCCD, box AP, % | deit-mini | ' in (tmp_path / 'study/report.md').read_text()
    assert (tmp_path / 'study/deit-mini.png').is_file()


TOOL = """
import pathlib, subprocess, time
print('eta: 1 day, 0:24:42  time: 1', flush=True)
while time.process_time() < 2.5: pass
orphan = subprocess.Popen(['sleep', '60'])
pathlib.Path(__file__).with_name('pid').write_text(str(orphan.pid))
raise SystemExit(3)
"""


@pytest.mark.slow
def test_a_tool_that_fails_and_one_that_outlives_its_runner(tmp_path):
    tool, count = tmp_path / 'tool.py', tmp_path / 'cpu_seconds'
    tool.write_text(TOOL)
    study.write(count, 5)  # of a runner that was killed
    seen, counted = [], []

    def show(left):
        seen.append(left)
        counted.append(read_cpu_seconds(count))

    with pytest.raises(UserError, match='exit status 3: see .*output.txt'):
        study.run_tool(tmp_path, tool, show=show)
    try:
        with pytest.raises(UserError, match='another process is at work in .* let it end or kill'):
            study.run_tool(tmp_path, tool)
    finally:
        os.kill(int((tmp_path / 'pid').read_text()), signal.SIGKILL)
    assert '1 day, 0:24:42' in seen
    assert counted == sorted(counted) and 5 <= counted[0] and 6 <= counted[-1] < 12
