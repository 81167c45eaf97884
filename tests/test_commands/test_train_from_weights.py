"""Where the weights of a training come from, and where they may not."""

import os
import re
import shutil
import sys

import pytest
import torch

from mmtlalign.checkpoint.saved_data import read_saved_data

from ..tiny import run, run_tool, write_project

PRETRAINED = """
model['backbone']['init_cfg'] = dict(
    type='Pretrained', checkpoint='pretrained.pth', prefix='backbone.')
"""


@pytest.fixture
def trained(whole):
    """Path of a checkpoint of the tiny model."""
    return whole[0] / 'work_dirs/tiny/epoch_3.pth'


def test_weights_are_verified_and_a_resume_needs_no_file(trained, tmp_path):
    pretrained = tmp_path / 'pretrained.pth'
    pretrained.write_bytes(trained.read_bytes())
    config = write_project(tmp_path, PRETRAINED + 'train_cfg.update(max_epochs=1)\n')
    first = run_tool('train.py', config, '--resume', folder=tmp_path)
    assert first.returncode == 0, first.stderr
    # 12 tensors a layer; patches, positions, class token, final norm
    assert "Weights of backbone: 30 tensors from 'pretrained.pth'" in (first.stdout)
    assert 'Weights of backbone: verified, 30 tensors' in first.stdout

    pretrained.unlink()
    second = run_tool('train.py', config, '--resume', '--extend', '2', folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert re.search("Weights: from '.*epoch_1.pth'", second.stdout)
    assert 'resumed epoch: 1' in second.stdout
    assert 'Weights of backbone' not in second.stdout


def test_random_weights_are_said_to_be_so(whole):
    assert 'Weights: random (no init_cfg' in whole[1].stdout


@pytest.mark.parametrize(
    'file, remedy',
    [
        ('pretrained.pth', ''),
        (
            'work_dirs/tlalign_deit-mini_1xb128_cifar10/epoch_10.pth',
            'train tlalign_deit-mini_1xb128_cifar10 first, or ',
        ),
    ],
)
def test_a_missing_pretraining_file_ends_it(ends_with, tmp_path, file, remedy):
    write_project(tmp_path, PRETRAINED.replace('pretrained.pth', file))
    assert ends_with('train.py', 'tiny.py') == (
        f"train.py: checkpoint '{file}' does not exist: {remedy}give another "
        'with --cfg-options model.backbone.init_cfg.checkpoint=PATH'
    )
    assert not (tmp_path / 'work_dirs').exists()  # nothing was built


def test_other_forms_end_it(ends_with, tmp_path):
    write_project(
        tmp_path, PRETRAINED + ("model['backbone']['init_cfg'] = [model['backbone']['init_cfg']]\n")
    )
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith('train.py: model.backbone.init_cfg=[')
    assert "dict(type='Pretrained', checkpoint=FILE, prefix='backb" in said


def test_load_from_must_fit(trained, ends_with, tmp_path):
    write_project(
        tmp_path,
        f"""
load_from = '{trained}'
model['head']['in_channels'] = 32
""",
    )
    said = ends_with('train.py', 'tiny.py')
    assert 'size mismatch for head.layers.head.weight' in said


def test_load_from_may_leave_out_what_is_named(trained, tmp_path):
    config = write_project(
        tmp_path,
        PRETRAINED
        + f"""
load_from = '{trained}'
load_from_allowed = ['head.']
model['head']['num_classes'] = 4
data_preprocessor['num_classes'] = 4
optim_wrapper['optimizer']['lr'] = 0.
train_cfg.update(max_epochs=1)
custom_hooks = []
""",
    )
    fourth = tmp_path / 'images/class3'
    shutil.copytree(tmp_path / 'images/class0', fourth)
    process = run_tool('train.py', config, folder=tmp_path)
    assert process.returncode == 0, process.stderr
    start, end = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (trained, tmp_path / 'work_dirs/tiny/epoch_1.pth')
    )
    for key, value in start.items():  # nothing was learnt
        if not key.startswith('head.'):
            assert torch.equal(value, end[key]), key
    assert end['head.layers.head.weight'].shape == (4, 16)


class WritesAFile:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return os.system, ('echo ran > trace',)


@pytest.mark.parametrize(
    'arguments',
    [
        ['train.py', 'tiny.py', '--resume', 'bad.pth'],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from=bad.pth'],
        ['train.py', 'pretrained.py'],
        ['test.py', 'tiny.py', 'bad.pth'],
    ],
    ids=lambda a: ' '.join(a[-2:]),
)
def test_no_command_runs_code_in_a_checkpoint(trained, ends_with, tmp_path, arguments):
    weights = torch.load(trained, weights_only=False)['state_dict']
    torch.save(dict(state_dict=weights, meta=WritesAFile()), 'bad.pth')
    (tmp_path / 'pretrained.py').write_text(
        '_base_ = "tiny.py"\n'
        + PRETRAINED.replace('pretrained.pth', 'bad.pth')
        .replace(
            "model['backbone']['init_cfg'] = dict(", 'model = dict(backbone=dict(init_cfg=dict('
        )
        .replace("prefix='backbone.')", "prefix='backbone.')))")
    )
    said = ends_with(*arguments)
    assert "checkpoint 'bad.pth' holds more than weights" in said
    assert not (tmp_path / 'trace').exists()


def test_trust_runs_it(ends_with, tmp_path):
    """What the test above would miss if nothing could have run."""
    torch.save(dict(state_dict=dict(other=torch.zeros(1)), more=WritesAFile()), 'bad.pth')
    said = ends_with('test.py', 'tiny.py', 'bad.pth', '--trust')
    assert (tmp_path / 'trace').exists()
    assert "checkpoint 'bad.pth' does not fit" in said


@pytest.fixture
def resumable(trained, tmp_path):
    """Change a copy of a checkpoint; return its path."""

    def change(change):
        checkpoint = torch.load(trained, weights_only=False)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return change


RUNS = "import os; os.system('echo ran > trace')"


@pytest.mark.parametrize('trust', [[], ['--trust']])
def test_a_config_in_a_checkpoint_is_not_run(resumable, tmp_path, trust):
    path = resumable(lambda c: c['meta'].update(config=RUNS, cfg=RUNS))
    config = write_project(tmp_path)
    resumed = run_tool(
        'train.py', config, '--resume', path, '--extend', '4', *trust, folder=tmp_path
    )
    assert resumed.returncode == 0, resumed.stderr
    assert 'resumed epoch: 3' in resumed.stdout
    assert (tmp_path / 'trace').exists() == bool(trust)


SWAP = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Swap(Hook):
    def before_run(self, runner):
        os.replace('bad.pth', 'good.pth')
"""


@pytest.mark.parametrize(
    'arguments',
    [
        ['train.py', 'tiny.py', '--resume', 'good.pth', '--extend', '4'],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from=good.pth'],
        ['test.py', 'tiny.py', 'good.pth'],
    ],
    ids=lambda a: ' '.join(a[-2:]),
)
def test_a_file_exchanged_after_the_check_is_not_read(trained, tmp_path, arguments):
    (tmp_path / 'good.pth').write_bytes(trained.read_bytes())
    torch.save(WritesAFile(), tmp_path / 'bad.pth')
    (tmp_path / 'swap.py').write_text(SWAP)
    write_project(
        tmp_path,
        """
custom_imports = dict(imports=['swap'])
custom_hooks.append(dict(type='Swap'))
""",
    )
    process = run_tool(*arguments, folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / 'bad.pth').exists()
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize(
    'change, complaint',
    [
        (lambda c: c.update(message_hub=None), 'message_hub is of type NoneType'),
        (lambda c: c['meta'].update(epoch='3'), 'epoch is of type str, not int; '),
        (lambda c: c['meta'].update(iter=10**30), 'iter is 1e+30, beyond its total of 9'),
        (lambda c: c['meta'].update(legs=3), 'legs is of type int, not list; '),
        (lambda c: c.update(within_epoch=[]), 'within_epoch is of type list, not dict; '),
        (lambda c: c.update(within_epoch=dict(batches=1)), 'optimizer or within_epoch holds'),
        (lambda c: c['optimizer']['param_groups'][0].update(lr='x'), 'optimizer or within_epoch'),
        (lambda c: c.pop('param_schedulers'), 'param_schedulers are missing: '),
        (lambda c: c.update(param_schedulers=[]), 'param_schedulers are missing: '),
        (
            lambda c: c['message_hub']['runtime_info'].update(keep_ckpt_ids=['/x']),
            "message_hub has ['/x'] for",
        ),
    ],
)
def test_what_is_to_be_resumed_must_be_what_it_was(resumable, ends_with, change, complaint):
    said = ends_with('train.py', 'tiny.py', '--resume', resumable(change))
    assert f'cannot be resumed: its {complaint}' in said
    assert said.endswith('it is damaged, resume an earlier one')


@pytest.mark.parametrize(
    'arguments',
    [
        ['train.py', 'tiny.py', '--resume', ''],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from='],
        ['test.py', 'tiny.py', ''],
        ['export_model.py', 'tiny.py', '', '--out', 'a.onnx', '--dynamic'],
        [
            'analysis_tools/visualize_alignment.py',
            'tiny.py',
            '',
            '--img',
            'images/class0/0.png',
            'images/class1/1.png',
        ],
    ],
    ids=lambda a: a[0],
)
def test_an_empty_checkpoint_is_not_none(ends_with, tmp_path, arguments):
    said = ends_with(*arguments)
    assert "checkpoint '' does not exist" in said or 'an argument is empty: give its' in said
    assert not (tmp_path / 'work_dirs').exists()


STOCK = """
model.update(type='ImageClassifier', train_cfg=dict(
    augments=[dict(type='Mixup', alpha=.8)]))
model['head']['type'] = 'VisionTransformerClsHead'
custom_hooks = [dict(type='EMAHook')]
param_scheduler = [
    dict(type='LinearLR', start_factor=.1, end=2, by_epoch=False),
    dict(type='MultiStepLR', milestones=[1, 2])]
"""


def test_a_checkpoint_of_the_stock_host_is_resumed(tmp_path):
    """Nothing of ours is in it; it is read as torch with its code does."""
    config = write_project(tmp_path, STOCK + 'train_cfg.update(max_epochs=1)')
    stock = run(
        [
            sys.executable,
            '-c',
            'from mmengine.config import Config\nfrom mmengine.runner import Runner\ncfg = '
            'Config.fromfile("tiny.py")\ncfg.work_dir = '
            '"work_dirs/tiny"\nRunner.from_cfg(cfg).train()',
        ],
        tmp_path,
    )
    assert stock.returncode == 0, stock.stderr
    path = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    whole, read = torch.load(path, weights_only=False), read_saved_data(path)
    assert whole.keys() == read.keys()
    for part in whole.keys() - {'message_hub'}:
        assert str(whole[part]) == str(read[part])
    resumed = run_tool('train.py', config, '--resume', '--extend', '2', folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert 'resumed epoch: 1' in resumed.stdout
    assert 'just skip resuming' not in resumed.stdout
