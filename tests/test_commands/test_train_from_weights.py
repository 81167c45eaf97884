"""Where the weights of a training come from, and where they may not."""

import os
import re
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmtlalign.checkpoint.saved_data import read_saved_data

from ..tiny import CONFIG, write_project
from .happens import write_disturbed
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


@pytest.mark.parametrize(
    'path, train_it_first',
    [
        ('gone.pth', ''),
        (
            'work_dirs/tlalign_deit-mini_1xb128_cifar10/epoch_10.pth',
            'train tlalign_deit-mini_1xb128_cifar10 first, or ',
        ),
    ],
)
def test_a_missing_pretraining_file_ends_it(ends_with, tmp_path, path, train_it_first):
    write_project(tmp_path, PRETRAINED.replace('pretrained.pth', path))
    assert ends_with('train.py', 'tiny.py').startswith(
        f"train.py: checkpoint '{path}' does not exist: {train_it_first}give another with "
        '--cfg-options model.backbone.init_cfg.checkpoint=PATH'
    )
    assert not (tmp_path / 'work_dirs').exists()  # nothing was built


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
        'test.py tiny.py bad.pth --trust',
    ],
)
def test_no_command_runs_code_in_a_checkpoint_that_is_not_trusted(ends_with, tmp_path, arguments):
    torch.save(dict(state_dict=dict(other=torch.zeros(1)), more=WritesAFile()), 'bad.pth')
    pretrained = CONFIG + PRETRAINED.replace('pretrained.pth', 'bad.pth')
    (tmp_path / 'pretrained.py').write_text(pretrained)
    is_trusted = '--trust' in arguments
    what = 'does not fit' if is_trusted else 'holds more than weights'
    assert f"checkpoint 'bad.pth' {what}" in ends_with(*arguments.split())
    assert (tmp_path / 'trace').exists() == is_trusted


RUNS = "import os; os.system('echo ran > trace')"


@pytest.mark.slow
@pytest.mark.parametrize('trust', [[], ['--trust']])
def test_a_config_in_a_checkpoint_is_not_run(trained, here, tmp_path, capsys, trust):
    checkpoint = load(trained)
    checkpoint['meta'].update(config=RUNS, cfg=RUNS)
    torch.save(checkpoint, 'changed.pth')
    here('train.py', 'tiny.py', '--resume', 'changed.pth', '--extend', '4', *trust)
    assert 'resumed epoch: 3' in capsys.readouterr().out
    assert (tmp_path / 'trace').exists() == bool(trust)


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments',
    [
        'train.py tiny.py --resume good.pth --extend 4',
        'train.py tiny.py --cfg-options load_from=good.pth train_cfg.max_epochs=1',
        'test.py tiny.py good.pth',
    ],
)
def test_a_file_exchanged_after_the_check_is_not_read(trained, here, tmp_path, arguments):
    (tmp_path / 'good.pth').write_bytes(trained.read_bytes())
    torch.save(WritesAFile(), tmp_path / 'bad.pth')
    write_disturbed(tmp_path, 'run', "os.replace('bad.pth', 'good.pth')")
    here(*arguments.split())
    assert not (tmp_path / 'bad.pth').exists()
    assert not (tmp_path / 'trace').exists()


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
