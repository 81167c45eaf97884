"""Both stages by their script, on a training that takes seconds."""

import re
import shutil
import sys

import pytest
import torch

from ..test_commands.test_train_and_test import load
from ..tiny import ROOT, run, run_tool, write_project

# Writes down what it is told to train, and leaves what the script reads of it.
STAND_IN = r"""#!/usr/bin/env bash
[ "$1" != - ] || exec "$REAL_PYTHON" "$@"
printf '%s\n' "${@:2}" '' >>commands
mkdir -p "$4"
echo "/elsewhere/epoch_2.pth" >"$4/last_checkpoint"
"""

STAGE1 = """
_base_ = '../tiny.py'
model = dict(
    _delete_=True, type='mmtlalign.LaCViT', backbone=_base_.model.backbone,
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
test_evaluator = val_evaluator
custom_hooks = [*_base_.custom_hooks, dict(type='mmtlalign.EncoderFeatures')]
"""
STAGE2 = """
_base_ = '../tiny.py'
model = dict(backbone=dict(
    frozen_stages=2,
    init_cfg=dict(type='Pretrained', prefix='backbone.',
                  checkpoint='work_dirs/first/epoch_2.pth')))
train_cfg = dict(max_epochs=1)
"""


@pytest.mark.slow
def test_both_stages(tmp_path):
    """What the script asks for, run in another folder."""
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
        load(folder / f'trained/{name}.pth')['state_dict']
        for name in ('first/epoch_2', 'second/epoch_1')
    )
    backbone = [key for key in encoder if key.startswith('backbone.')]
    assert len(backbone) > 10
    for key in backbone:
        assert torch.equal(frozen[key], encoder[key]), key
