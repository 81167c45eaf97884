"""The commands as a user runs them; a training killed, resumed, tested."""

import json
import pickle
import re
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands import train
from mmtlalign.commands.start import read_start
from mmtlalign.commands.start_up_noise import KNOWN_NOISE
from mmtlalign.errors import UserError

from ..tiny import ROOT, run_tool, write_project
from .test_work_dir import save

KILL = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Kill(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def load(path):
    return torch.load(path, weights_only=False)


def same(a, b):
    """Whether nested containers are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_training_shows_progress_and_no_noise(whole):
    folder, process = whole
    assert process.returncode == 0, process.stderr
    assert re.search(r'Epoch\(train\) \[2\]\[1/3\].* eta: \d:\d\d:\d\d', process.stdout)
    assert re.search(r'Epoch\(val\) .* eta: ', process.stdout)
    assert 'token_fluctuation: ' in process.stdout
    assert 'Threads: 1 (OMP_NUM_THREADS=1)' in process.stdout
    for message in KNOWN_NOISE:
        assert message.split('. ')[0] not in process.stdout + process.stderr
    assert 'paramwise_options' not in process.stdout
    (log,) = folder.glob('work_dirs/tiny/*/*.log')
    assert 'paramwise_options' in log.read_text()


def test_a_killed_training_resumes_bit_identical(whole, tmp_path):
    (tmp_path / 'kill.py').write_text(KILL)
    config = write_project(
        tmp_path,
        """
custom_imports = dict(imports=['kill'])
custom_hooks.append(dict(type='mmengine.Kill'))
""",
    )
    killed = run_tool('train.py', config, folder=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    work = tmp_path / 'work_dirs/tiny'
    assert sorted(p.name for p in work.glob('*.pth')) == ['epoch_1.pth']

    write_project(tmp_path)
    resumed = run_tool('train.py', config, '--resume', folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert 'resumed epoch: 1, iter: 3' in resumed.stdout
    straight = load(whole[0] / 'work_dirs/tiny/epoch_3.pth')
    broken = load(work / 'epoch_3.pth')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(straight[part], broken[part]), part


def test_testing_gives_the_accuracy_of_training(whole, tmp_path):
    folder, trained = whole
    process = run_tool(
        'test.py',
        'tiny.py',
        'work_dirs/tiny/epoch_3.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'all.pkl',
        '--bootstrap',
        tmp_path / 'new/draws.json',
        folder=folder,
    )
    assert process.returncode == 0, process.stderr
    accuracy = re.findall(r'accuracy/top1: ([\d.]+)', process.stdout)
    assert accuracy == re.findall(r'accuracy/top1: ([\d.]+)', trained.stdout)[-1:]
    predictions = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    right = [p['pred_label'].item() == p['gt_label'].item() for p in predictions]
    assert float(accuracy[0]) == pytest.approx(100 * sum(right) / 12, abs=0.01)
    assert re.search(r'Epoch\(test\) \[\s*\d/3\].* eta: ', process.stdout)
    bootstrap = json.loads((tmp_path / 'new/draws.json').read_text())
    draws = np.random.default_rng(0).integers(12, size=(1000, 12))
    expected = 100 * np.array(right)[draws].mean(axis=1)
    assert bootstrap.pop('draws') == pytest.approx(expected, abs=1e-4)
    low, high = bootstrap.pop('interval')
    assert [low, high] == pytest.approx(np.percentile(expected, [2.5, 97.5]))
    assert bootstrap == dict(
        metric='accuracy/top1', num_images=12, figure=pytest.approx(float(accuracy[0]), abs=1e-4)
    )
    assert f'95 % of the time between {low:.4f} and {high:.4f}' in (process.stdout)


@pytest.mark.parametrize(
    'arguments, line',
    [
        (['train.py', 'gone.py'], "train.py: config 'gone.py' does not exist"),
        (['test.py', 'gone.py', 'a.pth'], "test.py: config 'gone.py' does not"),
        (['test.py', 'tiny.py', 'a.pth'], "test.py: checkpoint 'a.pth' does not"),
        (
            ['train.py', 'tiny.py', '--resume', 'a.pth'],
            "train.py: checkpoint 'a.pth' does not exist",
        ),
        (
            ['train.py', 'tiny.py', '--cfg-options', 'val_dataloader.dataset.data_root=gone'],
            "train.py: dataset folder 'gone' (val_dataloader.dataset.data_root) ",
        ),
        (
            [
                'test.py',
                'tiny.py',
                'empty.pth',
                '--cfg-options',
                'test_dataloader.dataset.data_root=gone',
            ],
            "test.py: dataset folder 'gone' (test_dataloader.dataset.data_root) ",
        ),
        (
            ['train.py', 'tiny.py', '--work-dir', 'tiny.py/work'],
            "train.py: work dir 'tiny.py/work' cannot be made",
        ),
        (
            ['test.py', 'tiny.py', 'tiny.py', '--out', 'tiny.py/a.pkl'],
            "test.py: folder 'tiny.py' cannot be made",
        ),
        (
            ['test.py', 'tiny.py', 'tiny.py', '--bootstrap', 'tiny.py/a.json'],
            "test.py: folder 'tiny.py' cannot be made (File exists); choose another "
            'with --bootstrap',
        ),
        (
            ['test.py', 'images/class0/0.png', 'tiny.py'],
            "test.py: config 'images/class0/0.png' is no config",
        ),
        (
            ['train.py', ROOT / 'configs/classification/_base_/default_runtime.py'],
            f"train.py: config '{ROOT}/configs/classification/_base_/default_runtime"
            ".py' has no model",
        ),
        (
            ['train.py', 'tiny.py', '--cfg-options', 'param_scheduler.begin=3'],
            'train.py: train_cfg.max_epochs=3 ends within the warm-up, before Cosine'
            'AnnealingLR begins at 3; set --cfg-options train_cfg.max_epochs=4 or',
        ),
        (
            ['train.py', 'tiny.py', '--auto-scale-lr'],
            'train.py: --auto-scale-lr needs auto_scale_lr.base_batch_size',
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(ends_with, tmp_path, arguments, line):
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    said = ends_with(*arguments)
    assert said.startswith(line)
    assert '\n' not in said


def test_a_damaged_image_is_named(ends_with, tmp_path):
    path = tmp_path / 'images/class0/0.png'
    content = path.read_bytes()
    path.write_bytes(b'no image')
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith("train.py: image 'images/class0/0.png' cannot be read (")
    path.write_bytes(content[:100])  # with a sound header
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith(
        'train.py: failed to load image: images/class0/0.png: get the file again'
    )
    assert said.endswith(' (with --resume, it goes on from its last checkpoint)')


def test_a_checkpoint_of_another_model_is_refused(whole, ends_with):
    assert re.fullmatch(
        r"test\.py: checkpoint '.*' does not fit the config's "
        r'TLAlignClassifier: 12 keys missing in the file \(first: '
        r'backbone\.layers\.2\..*',
        ends_with(
            'test.py',
            'tiny.py',
            whole[0] / 'work_dirs/tiny/epoch_3.pth',
            '--cfg-options',
            'model.backbone.arch.num_layers=3',
        ),
    )


def test_a_checkpoint_of_another_model_is_not_resumed(whole, ends_with):
    said = ends_with(
        'train.py',
        'tiny.py',
        '--resume',
        whole[0] / 'work_dirs/tiny/epoch_3.pth',
        '--cfg-options',
        'model.head.in_channels=32',
        '--accept',
        'model',
        '--extend',
        '4',
    )
    assert 'size mismatch for head.layers.head.weight' in said
    assert '\n' not in said


@pytest.mark.parametrize('named', [True, False])
def test_weights_alone_are_not_resumed(whole, ends_with, tmp_path, named):
    checkpoint = load(whole[0] / 'work_dirs/tiny/epoch_3.pth')
    weights = tmp_path / 'work_dirs/tiny/weights.pth'
    weights.parent.mkdir(parents=True)
    torch.save(dict(state_dict=checkpoint['state_dict'], meta=dict(epoch=3)), weights)
    (weights.parent / 'last_checkpoint').write_text(str(weights))
    said = ends_with('train.py', 'tiny.py', '--resume', *[weights] * named)
    path = weights if named else 'work_dirs/tiny/weights.pth'
    assert said == (
        f"train.py: checkpoint '{path}' cannot be resumed: it has no iter, "
        'message_hub, optimizer; to begin a training with its weights, give '
        f'--cfg-options load_from={path} instead of --resume'
    )
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        '.lock',
        'last_checkpoint',
        'weights.pth',
    ]  # no log of a run


def test_predictions_need_a_name_that_tells_their_format(ends_with, capsys):
    assert ends_with('test.py', 'tiny.py', 'a.pth', '--out', 'a.json') == 2
    assert "--out 'a.json' must end in .pkl" in capsys.readouterr().err
    assert ends_with('test.py', 'tiny.py', 'a.pth', '--bootstrap', 'a.pkl') == 2
    assert "--bootstrap 'a.pkl' must end in .json" in capsys.readouterr().err


def test_only_schedules_of_the_same_unit_must_begin_in_time():
    warm_up = dict(type='LinearLR', by_epoch=False, end=50)
    decay = dict(type='PolyLR', by_epoch=False, begin=50)
    cfg = Config(dict(param_scheduler=[warm_up, decay], train_cfg=dict(max_epochs=4)))
    train.check_schedule(cfg)
    cfg.train_cfg = dict(max_iters=50)
    with pytest.raises(UserError, match='max_iters=50 .*PolyLR begins at 50'):
        train.check_schedule(cfg)
    cfg.param_scheduler[1].end = 100
    train.check_schedule(cfg)


def test_a_start_is_the_named_or_the_latest_checkpoint(tmp_path):
    cfg = Config(dict(load_from='pretrained.pth', work_dir=str(tmp_path)))
    train.resume(cfg, 'auto')
    assert cfg.resume and read_start(cfg, False) == (None, None)
    for name in ('a.pth', 'b.pth'):
        save(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'b.pth'))
    assert read_start(cfg, False)[0] == str(tmp_path / 'b.pth')
    train.resume(cfg, str(tmp_path / 'a.pth'))
    assert cfg.resume and read_start(cfg, False)[0] == str(tmp_path / 'a.pth')


def test_a_start_that_is_gone_is_named(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    assert read_start(cfg, False) == (None, None)
    cfg.load_from = 'gone.pth'
    with pytest.raises(UserError, match="checkpoint 'gone.pth' does not"):
        read_start(cfg, False)
    (tmp_path / 'last_checkpoint').write_text('moved.pth')
    train.resume(cfg, 'auto')
    with pytest.raises(UserError, match="names 'moved.pth', which does not"):
        read_start(cfg, False)


POISON = """
import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Poison(Hook):

    def before_train_iter(self, runner, batch_idx, data_batch):
        if os.environ.get('POISON') and runner.epoch == 1:
            data_batch['inputs'] = [
                image * torch.nan for image in data_batch['inputs']]
"""


def test_a_training_that_diverges_leaves_its_last_sound_checkpoint(tmp_path):
    """NaN from the second of three epochs on, one checkpoint kept."""
    (tmp_path / 'poison.py').write_text(POISON)
    config = write_project(
        tmp_path,
        """
custom_imports = dict(imports=['poison'])
custom_hooks.append(dict(type='mmengine.Poison'))
default_hooks['checkpoint'] = dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=1)
""",
    )
    done = run_tool('train.py', config, folder=tmp_path, POISON='1')
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        'train.py: training has diverged: a loss is not finite, by iteration 4 (epoch 2)'
    )
    sound = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    assert re.search("sound checkpoint is '.*work_dirs/tiny/epoch_1.pth'", said)
    assert 'Traceback' not in done.stderr
    assert [*sound.parent.glob('*.pth')] == [sound]
    kept = torch.load(sound, weights_only=False)
    assert all(value.isfinite().all() for value in kept['state_dict'].values())

    done = run_tool('train.py', config, '--resume', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 1, iter: 3' in done.stdout
    assert [path.name for path in sound.parent.glob('*.pth')] == ['epoch_3.pth']
