"""What users get wrong ends in one line that says what, where, what to do."""

import os
import signal
from pathlib import Path

import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from torch.utils.data import DataLoader

import mmtlalign.commands  # noqa: F401
from mmtlalign.commands.checks import check_values
from mmtlalign.commands.unread_keys import merge_options
from mmtlalign.errors import UserError, one_line_errors

from ..tiny import CONFIG, write_project


@pytest.mark.parametrize(
    'key, value, said',
    [
        ('train_dataloader.batch_size', 0, 'a whole number of at least 1'),
        ('train_dataloader.batch_size', 2.5, 'a whole number of at least 1'),
        ('train_dataloader.num_workers', -1, 'a whole number of at least 0'),
        ('train_cfg.by_epoch', 'maybe', 'True or False'),
        ('optim_wrapper.optimizer.lr', -1, 'a finite number of at least 0'),
        ('optim_wrapper.clip_grad.max_norm', 0, 'a finite number above 0'),
        ('randomness.seed', -1, 'a whole number from 0 to 4294967295'),
        ('model.backbone.drop_path_rate', -1, 'a finite number from 0 to 1'),
        ('train_dataloader.dataset.pipeline', 5, 'a list'),
        ('load_from', 5, 'a path'),
        # of what is only read with a launcher
        ('env_cfg.dist_cfg', 5, 'a dict'),
        ('env_cfg.dist_cfg.backend', 5, 'a name'),
        ('sync_bn', 'tourch', "'torch' or 'mmcv'"),
    ],
)
def test_a_value_out_of_its_limits(key, value, said):
    cfg = Config.fromstring(CONFIG, '.py')
    merge_options(cfg, {key: value})
    with pytest.raises(UserError) as error:
        check_values(cfg)
    line = str(error.value)
    assert line.startswith(f'{key}={value!r} must be {said}')
    assert f'--cfg-options {key}=VALUE' in line


OPTIONS = [
    ('optim_wrapper.optimizer.lr=fast', "optim_wrapper.optimizer.lr='fast' must be a finite"),
    ('val_evaluator.topk=7', 'topk=7, but val_dataloader.dataset has 3 classes'),
    ('model.head.loss.num_classes=7', 'model.head.loss.num_classes is 7, but'),
    ('train_dataloader.num_batch_per_epoch=0', 'there is not one batch of the 0 images'),
    ('custom_imports=foo', 'a config imports as it is read'),
    ('optim_wrapper.paramwise_cfg.custom_keys.a.lr_mlt=2', 'have lr_mult and decay_mult alone'),
    ('auto_scale_lr.enable=True', '--auto-scale-lr needs auto_scale_lr.base_batch_size'),
    ('model=5', '--cfg-options model=5: model has entries (type, backbone, head, ...)'),
    ('optim_wrapper=fast', 'set one of them: optim_wrapper.optimizer=VALUE'),
    ('model.backbone.arch.num_heads=3', "parts of the config's model do not fit each other"),
    ('train_dataloader.dataset.pipeline=[]', 'Sample 0 is NoneType; mixing needs a DataSample'),
    ('val_dataloader.dataset.data_root=gone', "'gone' (val_dataloader.dataset.data_root) "),
    ('param_scheduler.begin=3', 'set --cfg-options train_cfg.max_epochs=4 or more'),
    ('load_from=', "checkpoint '' does not exist"),
]
FIDELITY = 'analysis_tools/fidelity.py tiny.py'
ROBUSTNESS = 'analysis_tools/robustness.py'
VISUALIZE = 'analysis_tools/visualize_alignment.py'
IMAGES = '--img images/class0/0.png images/class1/1.png'
DIGITS = 'tlalign_deit-digits_1xb32_digits'


@pytest.mark.slow
@pytest.mark.parametrize(
    'command, said',
    [
        *((f'train.py tiny.py --cfg-options {option}', said) for option, said in OPTIONS),
        ('train.py gone.py', "config 'gone.py' does not exist"),
        ('train.py a\x1b[31m\\b.py', "config 'a\\x1b[31m\\b.py' does not"),
        ('train.py tiny.py --resume b.pth', "checkpoint 'b.pth' does not exist"),
        ('train.py tiny.py --resume ', 'an argument is empty: give its'),
        ('train.py tiny.py --work-dir tiny.py/a', "work dir 'tiny.py/a' cannot be made"),
        ('train.py tiny.py --check-picture a.txt', "--check-picture 'a.txt' must end in .png, .j"),
        ('test.py images/class0/0.png tiny.py', "config 'images/class0/0.png' is no config"),
        ('test.py tiny.py b.pth', "checkpoint 'b.pth' does not exist"),
        ('test.py tiny.py empty.pth --tta', '--tta needs tta_model in the config'),
        (
            'test.py tiny.py empty.pth --cfg-options test_dataloader.dataset.data_root=gone',
            "dataset folder 'gone' (test_dataloader.dataset.data_root) ",
        ),
        ('test.py tiny.py tiny.py --out tiny.py/a.pkl', "folder 'tiny.py' cannot be made"),
        (
            'test.py tiny.py tiny.py --bootstrap tiny.py/a.json',
            "folder 'tiny.py' cannot be made (File exists); choose another with --bootstrap",
        ),
        ('export_model.py tiny.py  --out a.onnx --dynamic', 'an argument is empty: give its'),
        (f'{FIDELITY} no.pth', "checkpoint 'no.pth'"),
        (f'{FIDELITY} tiny.py --out tiny.py/a.json', "folder 'tiny.py' cannot be "),
        (
            f'{FIDELITY} tiny.py tiny.py --labels a a',
            "label 'a' stands for 2 checkpoints; tell them apart with --labels",
        ),
        (f'{FIDELITY} tiny.py --labels a b', '--labels names 2 of 1 checkpoints'),
        (f'{FIDELITY} TRAINED --shares nonsense', "propagation 'nonsense' is unknown"),
        (
            f'{ROBUSTNESS} tiny.py TRAINED --patch-size 5',
            '--patch-size 5 does not divide the images of 16x16 pixels; give a size that does, ',
        ),
        (f'{ROBUSTNESS} tiny.py TRAINED --folders A=gone', "--folders: 'gone' does not exist"),
        (f'{ROBUSTNESS} tiny.py TRAINED --folders A=empty', "--folders: below 'empty' there is no"),
        (f'{ROBUSTNESS} tiny.py a.pth --folders clean=images', "--folders: the name 'clean' is ta"),
        (f'{ROBUSTNESS} tiny.py a.pth --folders A=images A=images', "--folders: the name 'A' is "),
        (
            f'{ROBUSTNESS} tiny.py TRAINED --cfg-options test_dataloader.dataset.data_root=gone',
            "dataset folder 'gone' (test_dataloader.dataset.data_root) does not",
        ),
        (f'{ROBUSTNESS} tiny.py TRAINED --out tiny.py/a.json', "folder 'tiny.py' cannot be "),
        (f'{ROBUSTNESS} {DIGITS} TRAINED', "class 0 is 'class0' in check"),
        (
            f'{ROBUSTNESS} lacvit_deit-mini_stage1_1xb128_cifar10 TRAINED',
            ' is of a mmtlalign.LaCViT, not of a BaseClassifier',
        ),
        (f'{ROBUSTNESS} TRAINED tiny.py', "config 'TRAINED' is no config"),
        (f'{VISUALIZE} tiny.py --img gone.png a.png', "image 'gone.png' does not exist"),
        (f'{VISUALIZE} tiny.py {IMAGES} --out tiny.py/a.png', "folder 'tiny.py' cannot be made"),
        (f'{VISUALIZE} tiny.py {IMAGES} --out a.txt', "--out 'a.txt' must end in .png, .jpg, .pdf"),
        (f'{VISUALIZE} tiny.py {IMAGES} --box 0 5 0 2', 'box 0 5 0 2 does not lie on the grid of '),
        (f'{VISUALIZE} {DIGITS} TRAINED {IMAGES}', "checkpoint 'TRAINED' does not fit the config"),
        # those that argparse refuses
        ('test.py tiny.py a.pth --out a.json', "--out: 'a.json' must end in .pkl or .pickle"),
        ('test.py tiny.py a.pth --bootstrap a.pkl', "--bootstrap: 'a.pkl' must end in .json"),
        ('train.py tiny.py --extend 0', '--extend: 0 must be at least 1'),
        ('train.py tiny.py --profile x', "--profile: invalid int value: 'x'"),
        ('train.py tiny.py --extend 5', '--extend and --accept go with --resume'),
        ('train.py tiny.py --resume --overwrite', '--overwrite begins anew, and --resume goes on'),
        ('train.py tiny.py --dry-run --profile 2', '--dry-run leaves nothing behind, and'),
        ('train.py tiny.py --track wandb,guild', "'guild' is none of tensorboard, wandb, mlflow"),
        (f'{FIDELITY} a.pth --mixes 1', '--mixes: 1 must be at least 4'),
        (f'{ROBUSTNESS} tiny.py a.pth --fgsm 1 nan', '--fgsm: nan must lie between 0 and 255'),
        (f'{ROBUSTNESS} tiny.py a.pth --drop .5 1.5', '--drop: 1.5 must lie between 0 and 1'),
        ('export_model.py tiny.py --out a.trt --dynamic', "'a.trt' must end in .onnx or .pt2"),
        ('export_model.py tiny.py --out a.pt2', 'one of the arguments --shape --dynamic'),
        ('export_model.py tiny.py --out a.pt2 --dynamic --batch 2', '--batch goes with --shape'),
    ],
)
def test_a_mistake_is_told_in_one_line(ends_with, trained, capsys, command, said):
    torch.save(dict(state_dict={}), 'empty.pth')
    Path('empty/class0').mkdir(parents=True)
    Path('a.pth').touch()
    line = ends_with(*command.replace('TRAINED', str(trained)).split(' '))
    err = capsys.readouterr().err
    line = err.splitlines()[-1] if line == 2 else line
    assert line.startswith(f'{Path(command.split()[0]).name}: ')
    assert said.replace('TRAINED', str(trained)) in line and '\n' not in line
    assert 'test images' not in err  # before measuring


CANNOT_BE_BUILT = 'VisionTransformer cannot be built as the config says (TypeError: '


@pytest.mark.slow
@pytest.mark.parametrize(
    'extra, said',
    [
        ("optim_wrapper['optimizer']['type'] = 'AdamWW'", "'AdamWW' of the config is unknown amo"),
        ("model['backbone']['type'] = 'VisionTransfomer'", "(closest: 'VisionTransformer')"),
        (
            "train_dataloader['dataset']['pipeline'][1]['type'] = 'RandomCrob'",
            "(closest: 'RandomCrop')",
        ),
        ("model['backbone']['drop_pth_rate'] = .1", CANNOT_BE_BUILT),
        ("train_cfg['max_iters'] = 7", 'the config makes no run (TypeError: '),
        ('del optim_wrapper', 'the config makes no run (ValueError: '),
        ("custom_hooks[0]['type'] = 'mmtlalign.ResumeRandomStat'", "mmtlalign.ResumeRandomState')"),
        ("model['head']['in_channels'] = 17", "parts of the config's model do not fit each other"),
    ],
)
def test_a_config_that_cannot_be_built(ends_with, tmp_path, extra, said):
    write_project(tmp_path, extra + '\n')
    line = ends_with('train.py', 'tiny.py')
    assert line.startswith('train.py: ') and said in line
    assert '\n' not in line


def test_a_users_own_mistake_in_python_keeps_its_trace(here, tmp_path):
    (tmp_path / 'a.py').write_text('a = 1 / 0')
    with pytest.raises(ZeroDivisionError):
        here('train.py', 'a.py')


def load(workers, collate, **boundary):
    """Read a batch of one sample as commands do."""
    loader = DataLoader(['a sample'], num_workers=workers, collate_fn=collate)
    with one_line_errors('train.py', **boundary):
        next(iter(loader))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_a_transform_of_the_users_own_keeps_its_trace(workers):
    def own(batch):
        raise ValueError('mine')

    with pytest.raises(ValueError, match='mine'):
        load(workers, own)


@pytest.mark.slow
def test_a_worker_that_is_killed():
    with pytest.raises(SystemExit) as ended:
        load(1, lambda batch: os.kill(os.getpid(), signal.SIGKILL))
    line = ended.value.code
    assert line.startswith('train.py: a process that loads data has ended (')
    assert 'set fewer num_workers or a smaller batch_size' in line


BOMB = b'P6 60000 60000 255\n'  # an image of that many pixels, as its header says


def test_an_image_that_cannot_be_decoded(ends_with, tmp_path):
    (tmp_path / 'images/class0/0.png').write_bytes(BOMB)
    line = ends_with('train.py', 'tiny.py')
    assert line.startswith("train.py: image 'images/class0/0.png' cannot be read (")
    assert line.endswith('get it again or take it out of the data set')


def test_an_image_that_is_cut_short(ends_with, tmp_path):
    path = tmp_path / 'images/class0/0.png'
    path.write_bytes(path.read_bytes()[:100])  # with a sound header
    said = ends_with('train.py', 'tiny.py')
    assert said.startswith('train.py: failed to load image: images/class0/0.png: get the file aga')
    assert said.endswith(' (with --resume, it goes on from its last checkpoint)')


@pytest.mark.slow
@pytest.mark.parametrize(
    'content, said, workers',
    [
        (None, "No such file or directory: '{}'", 0),
        (b'', 'failed to load image: {} (error: ', 0),
        (BOMB, 'failed to load image: {} (error: ', 0),
        (None, "No such file or directory: '{}'", 1),
        (b'', 'failed to load image: {} (error: ', 1),
    ],
)
def test_an_image_that_is_exchanged_after_the_check(tmp_path, content, said, workers):
    path = tmp_path / 'a.png'
    if content is not None:
        path.write_bytes(content)
    resumable = not workers
    with pytest.raises(SystemExit) as ended:
        load(workers, lambda _: LoadImageFromFile()(dict(img_path=str(path))), resumable=resumable)
    line = ended.value.code
    assert line.startswith('train.py: ') and said.format(path) in line
    assert ': get the file again or take it out of the data set' in line
    assert line.endswith('(with --resume, it goes on from its last checkpoint)') == resumable
    assert '\n' not in line and 'Traceback' not in line
