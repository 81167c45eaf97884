"""The study's runner, with trainings replaced by what they leave."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import mini_study as study
import numpy as np
import pytest
import study_report
import torch
from trainings import read_cpu_seconds

import mmtlalign
from mmtlalign.errors import UserError

from ..tiny import ROOT


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


class Stand:
    """In for our tools, which end at once.

    Attributes:
        calls (list): Those that ended.
        fail (tuple): The one that does not.
    """

    def __init__(self):
        self.calls, self.fail = [], None

    def __call__(self, folder, tool, *command, show=None):
        if (folder.name, tool) == self.fail:
            raise UserError('killed')
        self.calls.append((folder.name, tool))
        folder.mkdir(parents=True, exist_ok=True)
        used = folder / 'cpu_seconds'
        study.write(used, 10 + read_cpu_seconds(used))
        if tool == 'tools/test.py':
            Path(command[-1]).write_text(json.dumps(dict(draws=[0.5, 0.25])))
        elif tool.endswith('robustness.py'):
            found = dict(top1={'clean': 50.0}, calibration_error=3.0, confidence=40.0, seed=0)
            Path(command[-1]).write_text(json.dumps(found))
        else:
            self.train(folder, study.METRICS[folder.name.split('_')[0]][0])

    def train(self, folder, metric):
        log = folder / '20260101_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        rng = np.random.default_rng(len(self.calls))
        records = [{metric: rng.random(), 'step': step} for step in (4, 8)]
        for value, epoch in ((0.1, 1), (0.3, 2), (0.2, 2)):
            records.append(dict(token_fluctuation=value, epoch=epoch, step=9))
        log.write_text('\n'.join(map(json.dumps, records)) + '\n{"token_fluct')
        (folder / 'last_checkpoint').write_text('elsewhere/epoch_32.pth')
        torch.save(dict(meta=dict(mmengine_version='1.2.3' + 40 * 'a')), folder / 'epoch_32.pth')


@pytest.mark.slow
def test_a_stopped_unit_goes_on_and_a_written_one_is_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, 'RESULTS', tmp_path / 'study')
    tools, hashes, hash_of = Stand(), {}, study.hash_of
    monkeypatch.setattr(study, 'run_tool', tools)

    def hash_once(config, options):  # which takes long
        key = config, str(options)
        hashes[key] = hashes.get(key) or hash_of(config, options)
        return hashes[key]

    monkeypatch.setattr(study, 'hash_of', hash_once)

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['mini_study.py', *arguments])
        study.main()

    one = ('--backbones', 'deit-mini', '--seeds', '0')
    tools.fail = 'bccd_none', 'tools/train.py'
    with pytest.raises(UserError, match='killed'):
        run(*one)
    assert not list((tmp_path / 'study').glob('*'))
    said = r'cifar10_none was trained by another recipe \(\w{12}\) than .* is now \(other\)'
    with monkeypatch.context() as patch, pytest.raises(UserError, match=said):
        patch.setattr(study, 'hash_of', lambda *_: 'other')
        run(*one)
    tools.fail = None
    run(*one)
    assert len(set(tools.calls)) == len(tools.calls)  # nothing was done twice
    trained = [name for name, tool in tools.calls if tool == 'tools/train.py']
    assert len(trained) == 3 + 4 + 4
    run(*one)
    assert len(set(tools.calls)) == len(tools.calls)
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
while time.process_time() < 2: pass
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
