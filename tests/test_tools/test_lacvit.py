"""Both stages by their script, on a training that takes seconds."""

import re

import torch

from ..tiny import CONFIG, ROOT, run, run_tool, write_project

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


def project(folder):
    write_project(folder)
    (folder / 'configs').mkdir()
    (folder / 'configs/first.py').write_text(STAGE1)
    (folder / 'configs/second.py').write_text(STAGE2)


def weights(path, prefix='backbone.'):
    state = torch.load(path, weights_only=False)['state_dict']
    return {key: value for key, value in state.items() if key.startswith(prefix)}


def test_both_stages(tmp_path):
    """In another folder, then stage 2 again, and stage 1 measured."""
    tmp_path = tmp_path / 'with a blank'
    tmp_path.mkdir()
    project(tmp_path)
    command = [ROOT / 'tools/lacvit.sh', 'configs/second.py', '--cfg-options', 'randomness.seed=5']
    done = run(command, tmp_path, WORK_DIRS='trained')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Epoch(val) [2][3/3]    knn/top1: ' in done.stdout
    assert 'skipped_anchors: 0.0000' in done.stdout
    assert re.search(
        r"Weights of backbone: \d+ tensors from '.*/first/"
        r"epoch_2.pth'; in the file, but not used: neck \(4\)",
        done.stdout,
    )
    assert 'Weights of backbone: verified' in done.stdout
    last = 'lacvit.sh: classifier: '
    classifier = done.stdout[done.stdout.index(last) + len(last) :].strip()
    encoder = weights(tmp_path / 'trained/first/epoch_2.pth')
    frozen = weights(classifier)
    assert len(encoder) > 10
    for key, value in encoder.items():
        assert torch.equal(frozen[key], value), key

    (tmp_path / 'trained/second/epoch_1.pth').unlink()
    (tmp_path / 'trained/second/last_checkpoint').unlink()
    again = run(command, tmp_path, WORK_DIRS='trained')
    assert again.returncode == 0, again.stdout + again.stderr
    # stage 1 is not trained again
    assert 'nothing left to do: max_epochs=2' in again.stdout
    assert '[1][1/3]' in again.stdout
    assert '[2][1/3]' not in again.stdout

    tested = run_tool('test.py', 'configs/first.py', 'trained/first/epoch_2.pth', folder=tmp_path)
    assert tested.returncode == 0, tested.stderr
    for name in ('knn/top1', 'linear_probe/top1', 'isotropy/iso_score'):
        assert f'{name}: ' in tested.stdout, name


def test_one_line_errors(tmp_path):
    project(tmp_path)
    script = ROOT / 'tools/lacvit.sh'
    for arguments, expected in (
        ([], 'usage: tools/lacvit.sh CONFIG_OF_STAGE_2'),
        (['x.py'], "config 'x.py' does not exist"),
        (['tiny.py'], "'tiny.py' is no config of stage 2"),
        (['tiny.py', '--work-dir', 'x'], 'set WORK_DIRS'),
        (['tiny.py', 'blank'], "WORK_DIRS='a folder' holds a blank"),
    ):
        done = run(
            [script, *arguments], tmp_path, WORK_DIRS='a folder' if 'blank' in arguments else 'x'
        )
        assert done.returncode == 1
        assert done.stderr.startswith('lacvit.sh: ')
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
