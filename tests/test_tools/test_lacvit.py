"""Both stages by their script, on a training that takes seconds."""

import re
import shutil
import sys

import pytest
import torch

from ..tiny import CONFIG, ROOT, run, run_tool, write_project

# Writes down what it is told to train, and leaves what the script reads of it.
STAND_IN = r"""#!/usr/bin/env bash
[ "$1" != - ] || exec "$REAL_PYTHON" "$@"
printf '%s\n' "${@:2}" '' >>commands
mkdir -p "$4"
echo "/elsewhere/epoch_2.pth" >"$4/last_checkpoint"
"""

BACKBONE = CONFIG[CONFIG.index('backbone=') : CONFIG.index('    head=')]
STAGE1 = f"""
_base_ = '../tiny.py'
model = dict(
    _delete_=True, type='mmtlalign.LaCViT',
    {BACKBONE}
    neck=dict(type='MoCoV2Neck', in_channels=16, hid_channels=8,
              out_channels=4),
    loss=dict(type='mmtlalign.SupervisedContrastiveLoss'))
data_preprocessor = dict(_delete_=True, mean=[127.] * 3, std=[60.] * 3)
train_dataloader = dict(collate_fn=dict(type='default_collate'), dataset=dict(
    pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='MultiView', num_views=2, transforms=[
        [dict(type='RandomCrop', crop_size=16, padding=2)]]),
    dict(type='PackInputs')]))
val_dataloader = dict(collate_fn=dict(type='default_collate'))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2)
val_evaluator = dict(_delete_=True, type='mmtlalign.KNNAccuracy', k=3)
test_evaluator = [
    dict(type='mmtlalign.KNNAccuracy', k=3),
    dict(type='mmtlalign.LinearProbe', grid=[1.]),
    dict(type='mmtlalign.Isotropy')]
custom_hooks = [dict(type='mmtlalign.ResumeRandomState'),
                dict(type='mmtlalign.EncoderFeatures')]
"""
STAGE2 = f"""
_base_ = '../tiny.py'
model = dict(
    _delete_=True, type='ImageClassifier',
    {BACKBONE}
    head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16))
model['backbone'].update(
    frozen_stages=2,
    init_cfg=dict(type='Pretrained', prefix='backbone.',
                  checkpoint='work_dirs/first/epoch_2.pth'))
train_cfg = dict(max_epochs=1)
"""


def weights(path):
    """Of the backbone."""
    state = torch.load(path, weights_only=False)['state_dict']
    return {key: value for key, value in state.items() if key.startswith('backbone.')}


@pytest.mark.slow
def test_both_stages(tmp_path):
    """What the script asks for, run in another folder; and stage 1 measured."""
    folder = tmp_path / 'with a blank'
    (folder / 'configs').mkdir(parents=True)
    write_project(folder)
    (folder / 'configs/first.py').write_text(STAGE1)
    (folder / 'configs/second.py').write_text(STAGE2)
    (folder / 'python').write_text(STAND_IN)
    (folder / 'python').chmod(0o755)
    command = [ROOT / 'tools/lacvit.sh', 'configs/second.py', '--cfg-options', 'randomness.seed=5']
    done = run(command, folder, WORK_DIRS='trained', PYTHON='./python', REAL_PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        'lacvit.sh: encoder: /elsewhere/epoch_2.pth\nlacvit.sh: classifier: '
        '/elsewhere/epoch_2.pth\n'
    )
    shutil.rmtree(folder / 'trained')
    commands = (folder / 'commands').read_text().strip().split('\n\n')
    assert all('--resume' in words for words in commands)
    first, second = (run_tool('train.py', *words.splitlines(), folder=folder) for words in commands)
    assert first.returncode == 0, first.stdout + first.stderr
    assert 'Epoch(val) [2][3/3]    knn/top1: ' in first.stdout
    assert 'skipped_anchors: 0.0000' in first.stdout
    assert second.returncode == 0, second.stdout + second.stderr
    assert re.search(
        r"Weights of backbone: \d+ tensors from '.*/first/"
        r"epoch_2.pth'; in the file, but not used: neck \(4\)",
        second.stdout,
    )
    assert 'Weights of backbone: verified' in second.stdout
    encoder, frozen = (
        weights(folder / f'trained/{name}.pth') for name in ('first/epoch_2', 'second/epoch_1')
    )
    assert len(encoder) > 10
    for key, value in encoder.items():
        assert torch.equal(frozen[key], value), key

    tested = run_tool('test.py', 'configs/first.py', 'trained/first/epoch_2.pth', folder=folder)
    assert tested.returncode == 0, tested.stderr
    for name in ('knn/top1', 'linear_probe/top1', 'isotropy/iso_score'):
        assert f'{name}: ' in tested.stdout, name


@pytest.mark.slow
def test_one_line_errors(tmp_path):
    write_project(tmp_path)
    for work_dirs, arguments, expected in (
        ('x', [], 'usage: tools/lacvit.sh CONFIG_OF_STAGE_2'),
        ('x', ['x.py'], "config 'x.py' does not exist"),
        ('x', ['tiny.py'], "'tiny.py' is no config of stage 2"),
        ('x', ['tiny.py', '--work-dir', 'x'], 'set WORK_DIRS'),
        ('a folder', ['tiny.py'], "WORK_DIRS='a folder' holds a blank"),
    ):
        done = run([ROOT / 'tools/lacvit.sh', *arguments], tmp_path, WORK_DIRS=work_dirs)
        assert done.returncode == 1
        assert done.stderr.startswith('lacvit.sh: ') and expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
