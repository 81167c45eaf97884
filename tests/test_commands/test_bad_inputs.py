"""What users get wrong ends in one line that says what, where, what to do."""

import struct
import zlib

import pytest
from mmcv.transforms import LoadImageFromFile
from torch.utils.data import DataLoader

import mmtlalign.commands  # noqa: F401
from mmtlalign.errors import one_line_errors

from ..tiny import run_tool, write_project


def options(*given):
    return ['train.py', 'tiny.py', '--cfg-options', *given]


@pytest.mark.parametrize(
    'option, said',
    [
        ('train_dataloader.batch_size=0', 'must be a whole number of at least 1'),
        ('train_dataloader.batch_size=2.5', 'must be a whole number of at least'),
        ('train_dataloader.num_workers=-1', 'must be a whole number of at least'),
        ('train_cfg.max_epochs=0', 'must be a whole number of at least 1'),
        ('train_cfg.val_interval=0', 'must be a whole number of at least 1'),
        ('optim_wrapper.optimizer.lr=fast', 'must be a finite number of at least'),
        ('optim_wrapper.optimizer.lr=-1', 'must be a finite number of at least 0'),
        ('optim_wrapper.optimizer.weight_decay=x', 'must be a finite number'),
        ('optim_wrapper.accumulative_counts=0', 'must be a whole number of at'),
        ('optim_wrapper.clip_grad.max_norm=0', 'must be a finite number above 0'),
        ('param_scheduler.T_max=0', 'must be a whole number of at least 1'),
        ('randomness.seed=-1', 'must be a whole number from 0 to 4294967295'),
        ('default_hooks.logger.interval=0', 'must be a whole number of at least'),
        ('model.head.num_classes=0', 'must be a whole number of at least 1'),
        ('val_dataloader.batch_size=many', 'must be a whole number of at least 1'),
        ('val_evaluator.topk=0', 'must be a whole number of at least 1'),
        ('train_cfg.by_epoch=maybe', 'must be True or False'),
        ('model.head.loss.loss_weight=-1', 'must be a finite number of at least 0'),
        ('model.backbone.drop_path_rate=-1', 'must be a finite number from 0 to 1'),
        ('train_dataloader.dataset.pipeline=5', 'must be a list'),
        ('load_from=5', 'must be a path'),
        # of what is only read with a launcher
        ('env_cfg.dist_cfg=5', 'must be a dict'),
        ('env_cfg.dist_cfg.backend=5', 'must be a name'),
        ('env_cfg.dist_cfg.timeout=soon', 'must be a finite number above 0'),
        ('model_wrapper_cfg=5', 'must be a dict'),
        ('find_unused_parameters=5', 'must be True or False'),
        ('sync_bn=tourch', "must be 'torch' or 'mmcv'"),
    ],
)
def test_a_value_out_of_its_limits(ends_with, option, said):
    line = ends_with(*options(option))
    key, value = option.split('=')
    assert line.startswith(f'train.py: {key}=')
    assert value in line and said in line
    assert f'--cfg-options {key}=VALUE' in line


@pytest.mark.parametrize(
    'option, said',
    [
        ('val_evaluator.topk=7', 'topk=7, but val_dataloader.dataset has 3 classes'),
        ('model.head.loss.num_classes=7', 'model.head.loss.num_classes is 7, but'),
        ('train_dataloader.num_batch_per_epoch=0', 'there is not one batch of the 0 images'),
        ('custom_imports=foo', 'a config imports as it is read'),
        (
            'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mlt=2',
            'have lr_mult and decay_mult alone',
        ),
        ('auto_scale_lr.enable=True', 'needs auto_scale_lr.base_batch_size'),
        ('model=5', '--cfg-options model=5: model has entries (type, backbone, head, ...)'),
        ('optim_wrapper=fast', 'set one of them: optim_wrapper.optimizer=VALUE'),
        ('model.backbone.arch.num_heads=3', "parts of the config's model do not fit each other"),
        ('train_dataloader.dataset.pipeline=[]', 'Sample 0 is NoneType; mixing needs a DataSample'),
    ],
)
def test_a_value_that_nothing_can_be_made_of(ends_with, option, said):
    line = ends_with(*options(option))
    assert line.startswith('train.py: ') and said in line
    assert '\n' not in line


@pytest.mark.parametrize('name', ['picture', 'picture.txt'])
def test_a_picture_has_a_format(ends_with, name):
    line = ends_with('train.py', 'tiny.py', '--check-picture', name)
    assert line.endswith(f"--check-picture '{name}' must end in .png, .jpg, .pdf, .svg")


@pytest.mark.parametrize(
    'extra, said',
    [
        (
            "optim_wrapper['optimizer']['type'] = 'AdamWW'",
            "type 'AdamWW' of the config is unknown among the optimizers of ",
        ),
        ("model['backbone']['type'] = 'VisionTransfomer'", "(closest: 'VisionTransformer')"),
        (
            "train_dataloader['dataset']['pipeline'][1]['type'] = 'RandomCrob'",
            "(closest: 'RandomCrop')",
        ),
        (
            "model['backbone']['drop_pth_rate'] = .1",
            'VisionTransformer cannot be built as the config says (TypeError: ',
        ),
        (
            "model['backbone']['arch'] = 'huge-ish'",
            'VisionTransformer cannot be built as the config says (AssertionError: ',
        ),
        ("train_cfg['max_iters'] = 7", 'the config makes no run (TypeError: '),
        ('del optim_wrapper', 'the config makes no run (ValueError: '),
        ("optim_wrapper['optimizer']['momentun'] = 1", 'AdamW cannot be built'),
        ("val_evaluator['type'] = 'Accurancy'", "(closest: 'Accuracy')"),
        (
            "custom_hooks[0]['type'] = 'mmtlalign.ResumeRandomStat'",
            "(closest: 'mmtlalign.ResumeRandomState')",
        ),
        (
            "model['head']['in_channels'] = 17",
            "parts of the config's model do not fit each other (",
        ),
    ],
)
def test_a_config_that_cannot_be_built(ends_with, tmp_path, extra, said):
    write_project(tmp_path, extra + '\n')
    line = ends_with('train.py', 'tiny.py')
    assert line.startswith('train.py: ')
    assert said in line
    assert '\n' not in line


@pytest.mark.parametrize(
    'name, text, said',
    [
        ('a.yml', 'a: [1', 'ParserError: while parsing a flow sequence'),
        ('a.yaml', 'a: b: c', 'ScannerError: mapping values are not allowed'),
        ('a.json', '{"a": 1,}', 'JSONDecodeError: '),
        ('a.json', '[1]', 'a.json'),
        ('a.py', "_base_ = 'a.py'", '_base_ leads back to itself: a.py -> a.py'),
        ('a.py', "_base_ = 'b.py'", 'leads back to itself: a.py -> b.py -> a.py'),
        ('a.py', "_base_ = ['c.py', 'd.py']", 'Duplicate key is not allowed'),
        ('a.py', b'a = "\xe9"', "UnicodeDecodeError: 'utf-8'"),
        ('a.py', b'a = 1\x00', 'cannot be read ('),
        ('a.py', 'a = (', 'SyntaxError: '),
    ],
)
def test_a_config_that_cannot_be_read(ends_with, tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / 'b.py').write_text("_base_ = 'a.py'")
    (tmp_path / 'c.py').write_text('a = 1')
    (tmp_path / 'd.py').write_text('a = 2')
    line = ends_with('train.py', name)
    assert line.startswith(f"train.py: config '{name}' cannot be read (")
    assert said in line
    assert '\n' not in line


def test_a_users_own_mistake_in_python_keeps_its_trace(here, tmp_path):
    (tmp_path / 'a.py').write_text('a = 1 / 0')
    with pytest.raises(ZeroDivisionError):
        here('train.py', 'a.py')


OWN = """
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Own(BaseTransform):
    def transform(self, results):
        raise ValueError('mine')
"""


@pytest.mark.parametrize('workers', [0, 1])
def test_a_transform_of_the_users_own_keeps_its_trace(here, tmp_path, workers, monkeypatch):
    (tmp_path / 'own_transform.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    write_project(
        tmp_path,
        f"""
custom_imports = dict(imports=['own_transform'])
train_dataloader['dataset']['pipeline'][1] = dict(type='mmengine.Own')
train_dataloader['num_workers'] = {workers}
""",
    )
    with pytest.raises(ValueError, match='mine'):
        here('train.py', 'tiny.py')


def bomb():
    """A PNG of 60000 x 60000 pixels, by what its header says."""

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(b''))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('content', [b'', b'no image', bomb()], ids=['empty', 'text', 'bomb'])
def test_an_image_that_cannot_be_decoded(ends_with, tmp_path, content, workers):
    (tmp_path / 'images/class0/0.png').write_bytes(content)
    line = ends_with(*options(f'train_dataloader.num_workers={workers}'))
    assert line.startswith("train.py: image 'images/class0/0.png' cannot be read (")
    assert line.endswith('get it again or take it out of the data set')


@pytest.mark.parametrize('content', [b'', bomb()], ids=['empty', 'bomb'])
@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_that_is_exchanged_after_the_check(tmp_path, content, workers):
    path = tmp_path / 'a.png'
    path.write_bytes(content)
    loader = DataLoader(
        [dict(img_path=str(path))],
        num_workers=workers,
        collate_fn=lambda batch: LoadImageFromFile()(batch[0]),
    )
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py', resumable=True):
        next(iter(loader))
    line = ended.value.code
    assert line.startswith(f'train.py: failed to load image: {path} (error: ')
    assert ': get the file again or take it out of the data set' in line
    assert line.endswith('(with --resume, it goes on from its last checkpoint)')
    assert '\n' not in line


def test_names_cannot_write_to_the_terminal(ends_with):
    line = ends_with('train.py', 'a\x1b[31m\nb.py')
    assert line.startswith("train.py: config 'a\\x1b[31m\\nb.py' does not")


KILLED = """
import os, signal
from torch.utils.data import get_worker_info
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Killed(BaseTransform):
    def transform(self, results):
        if get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return results
"""


def test_a_worker_that_is_killed(ends_with, tmp_path, monkeypatch):
    (tmp_path / 'killed.py').write_text(KILLED)
    monkeypatch.syspath_prepend(tmp_path)
    write_project(
        tmp_path,
        """
custom_imports = dict(imports=['killed'])
train_dataloader['dataset']['pipeline'][1] = dict(type='mmengine.Killed')
train_dataloader['num_workers'] = 1
""",
    )
    line = ends_with('train.py', 'tiny.py')
    assert line.startswith('train.py: a process that loads data has ended (')
    assert 'set fewer num_workers or a smaller batch_size' in line


def test_debug_shows_the_trace_as_well(tmp_path):
    write_project(tmp_path)
    done = run_tool('train.py', 'gone.py', '--debug', folder=tmp_path)
    assert done.returncode == 1
    assert 'Traceback' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("train.py: config 'gone.py' does not exist")
