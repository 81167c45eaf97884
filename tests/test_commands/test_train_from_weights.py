"""Where the weights of a training come from, and where they may not."""

import os
import re
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmtlalign.checkpoint.saved_data import read_saved_data

from ..tiny import write_project
from .test_train_and_test import load

PRETRAINED = """
model['backbone']['init_cfg'] = dict(
    type='Pretrained', checkpoint='pretrained.pth', prefix='backbone.')
"""
ONE_EPOCH = 'train_cfg.update(max_epochs=1)\n'


@pytest.mark.slow
def test_weights_are_verified_and_a_resume_needs_no_file(trained, here, tmp_path, capsys):
    pretrained = tmp_path / 'pretrained.pth'
    pretrained.write_bytes(trained.read_bytes())
    write_project(tmp_path, PRETRAINED + ONE_EPOCH)
    here('train.py', 'tiny.py', '--resume')
    said = capsys.readouterr().out
    # 12 tensors a layer; patches, positions, class token, final norm
    assert "Weights of backbone: 30 tensors from 'pretrained.pth'" in said
    assert 'Weights of backbone: verified, 30 tensors' in said

    pretrained.unlink()
    here('train.py', 'tiny.py', '--resume', '--extend', '2')
    said = capsys.readouterr().out
    assert re.search("Weights: from '.*epoch_1.pth'", said)
    assert 'resumed epoch: 1' in said
    assert 'Weights of backbone' not in said
    here('train.py', 'tiny.py', '--resume', '--extend', '2')
    assert 'nothing left to do: max_epochs=2' in capsys.readouterr().out


EARLIER = 'work_dirs/tlalign_deit-mini_1xb128_cifar10/epoch_10.pth'


@pytest.mark.parametrize(
    'extra, said',
    [
        (
            PRETRAINED,
            "checkpoint 'pretrained.pth' does not exist: give another with --cfg-options "
            'model.backbone.init_cfg.checkpoint=PATH',
        ),
        (
            PRETRAINED.replace('pretrained.pth', EARLIER),
            f"checkpoint '{EARLIER}' does not exist: train tlalign_deit-mini_1xb128_cifar10 "
            'first, or give another with --cfg-options model.backbone.init_cfg.checkpoint=PATH',
        ),
    ],
)
def test_a_missing_pretraining_file_ends_it(ends_with, tmp_path, extra, said):
    write_project(tmp_path, extra)
    assert ends_with('train.py', 'tiny.py').startswith(f'train.py: {said}')
    assert not (tmp_path / 'work_dirs').exists()  # nothing was built


def test_other_forms_end_it(ends_with, tmp_path):
    write_project(
        tmp_path, PRETRAINED + "model['backbone']['init_cfg'] = [model['backbone']['init_cfg']]\n"
    )
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith('train.py: model.backbone.init_cfg=[')
    assert "dict(type='Pretrained', checkpoint=FILE, prefix='backb" in said


@pytest.mark.slow
def test_load_from_must_fit_but_for_what_is_named(trained, here, ends_with, tmp_path):
    fourth = f"""
load_from = '{trained}'
model['head']['num_classes'] = 4
data_preprocessor['num_classes'] = 4
optim_wrapper['optimizer']['lr'] = 0.
custom_hooks = []
"""
    shutil.copytree(tmp_path / 'images/class0', tmp_path / 'images/class3')
    write_project(tmp_path, PRETRAINED + fourth + ONE_EPOCH)
    assert 'size mismatch for head.layers.head.weight' in ends_with('train.py', 'tiny.py')
    write_project(tmp_path, PRETRAINED + fourth + ONE_EPOCH + "load_from_allowed = ['head.']\n")
    here('train.py', 'tiny.py')
    paths = trained, tmp_path / 'work_dirs/tiny/epoch_1.pth'
    start, end = (load(path)['state_dict'] for path in paths)
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
        'train.py tiny.py --resume bad.pth',
        'train.py tiny.py --cfg-options load_from=bad.pth',
        'train.py pretrained.py',
        'test.py tiny.py bad.pth',
    ],
)
def test_no_command_runs_code_in_a_checkpoint(trained, ends_with, tmp_path, arguments):
    weights = load(trained)['state_dict']
    torch.save(dict(state_dict=weights, meta=WritesAFile()), 'bad.pth')
    init = "dict(type='Pretrained', checkpoint='bad.pth', prefix='backbone.')"
    (tmp_path / 'pretrained.py').write_text(
        f"_base_ = 'tiny.py'\nmodel = dict(backbone=dict(init_cfg={init}))\n"
    )
    said = ends_with(*arguments.split())
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
        checkpoint = load(trained)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return change


RUNS = "import os; os.system('echo ran > trace')"


@pytest.mark.slow
@pytest.mark.parametrize('trust', [[], ['--trust']])
def test_a_config_in_a_checkpoint_is_not_run(resumable, here, tmp_path, capsys, trust):
    path = resumable(lambda c: c['meta'].update(config=RUNS, cfg=RUNS))
    here('train.py', 'tiny.py', '--resume', path, '--extend', '4', *trust)
    assert 'resumed epoch: 3' in capsys.readouterr().out
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


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments',
    [
        'train.py tiny.py --resume good.pth --extend 4',
        'train.py tiny.py --cfg-options load_from=good.pth train_cfg.max_epochs=1',
        'test.py tiny.py good.pth',
    ],
)
def test_a_file_exchanged_after_the_check_is_not_read(
    trained, here, tmp_path, monkeypatch, arguments
):
    (tmp_path / 'good.pth').write_bytes(trained.read_bytes())
    torch.save(WritesAFile(), tmp_path / 'bad.pth')
    (tmp_path / 'swap.py').write_text(SWAP)
    monkeypatch.syspath_prepend(tmp_path)
    extra = "custom_imports = dict(imports=['swap'])\ncustom_hooks.append(dict(type='Swap'))\n"
    write_project(tmp_path, extra)
    here(*arguments.split())
    assert not (tmp_path / 'bad.pth').exists()
    assert not (tmp_path / 'trace').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, complaint',
    [
        (lambda c: c.update(message_hub=None), 'message_hub is of type NoneType'),
        (lambda c: c['meta'].update(epoch='3'), 'epoch is of type str, not int; '),
        (lambda c: c['meta'].update(iter=10**30), 'iter is 1e+30, beyond its total of 9'),
        (lambda c: c.update(within_epoch=[]), 'within_epoch is of type list, not dict; '),
        (lambda c: c.update(within_epoch=dict(batches=1)), 'optimizer or within_epoch holds'),
        (lambda c: c['optimizer']['param_groups'][0].update(lr='x'), 'optimizer or within_epoch'),
        (lambda c: c.pop('param_schedulers'), 'param_schedulers are missing: '),
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


STOCK = """
model.update(type='ImageClassifier', train_cfg=dict(
    augments=[dict(type='Mixup', alpha=.8)]))
model['head']['type'] = 'VisionTransformerClsHead'
custom_hooks = [dict(type='EMAHook')]
param_scheduler = [
    dict(type='LinearLR', start_factor=.1, end=2, by_epoch=False),
    dict(type='MultiStepLR', milestones=[1, 2])]
work_dir = 'work_dirs/tiny'
"""


@pytest.mark.slow
def test_a_checkpoint_of_the_stock_host_is_resumed(here, tmp_path, capsys):
    """Nothing of ours is in it; it is read as torch with its code does."""
    write_project(tmp_path, STOCK + ONE_EPOCH)
    Runner.from_cfg(Config.fromfile('tiny.py')).train()
    path = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    whole, read = load(path), read_saved_data(path)
    assert whole.keys() == read.keys()
    for part in whole.keys() - {'message_hub'}:
        assert str(whole[part]) == str(read[part])
    here('train.py', 'tiny.py', '--resume', '--extend', '2')
    said = capsys.readouterr().out
    assert 'resumed epoch: 1' in said and 'just skip resuming' not in said
