"""What ends analysis_tools/robustness.py, and when; test_evaluation has more."""

import json
import shutil

import pytest

TOOL = 'analysis_tools/robustness.py'


@pytest.fixture
def checkpoint(whole):
    """Path of a checkpoint of the tiny model."""
    return whole[0] / 'work_dirs/tiny/epoch_3.pth'


def test_what_was_measured_is_not_lost(ends_with, checkpoint, tmp_path):
    for name in ('good', 'bad'):
        shutil.copytree('images', name)
    (tmp_path / 'bad/class2/2.png').write_bytes(b'no image')
    said = ends_with(
        TOOL, 'tiny.py', checkpoint, '--drop', '--fgsm', '--folders', 'A=good', 'B=bad'
    )
    assert 'failed to load image: bad/class2/2.png' in said
    top1 = json.loads((tmp_path / 'robustness.json').read_text())['top1']
    assert set(top1) == {'clean', 'A'} and top1['A'] == top1['clean']


def test_a_default_that_fits(here, checkpoint, tmp_path):
    for out, options in (('a.json', []), ('b.json', ['--patch-size', '4'])):
        here(TOOL, 'tiny.py', checkpoint, '--out', f'new/{out}', *options)
    results = [json.loads((tmp_path / 'new' / out).read_text()) for out in ('a.json', 'b.json')]
    assert results[0] == results[1]  # whole patches of the backbone


@pytest.mark.parametrize(
    'arguments, line',
    [
        (
            ['--patch-size', '5'],
            '--patch-size 5 does not divide the images of '
            '16x16 pixels; give a size that does, such as 4',
        ),
        (['--folders', 'A=gone'], "--folders: 'gone' does not exist"),
        (['--folders', 'A=empty'], "--folders: below 'empty' there is no folder "),
        (['--folders', 'clean=images'], "--folders: the name 'clean' is taken"),
        (['--folders', 'drop 0.5=images'], "--folders: the name 'drop 0.5' is "),
        (['--folders', 'A=images', 'A=images'], "--folders: the name 'A' is "),
        (
            ['--cfg-options', 'test_dataloader.dataset.data_root=gone'],
            "dataset folder 'gone' (test_dataloader.dataset.data_root) does not",
        ),
        (['--out', 'tiny.py/a.json'], "folder 'tiny.py' cannot be "),
    ],
)
def test_a_mistake_is_told_before_measuring(
    ends_with, checkpoint, capsys, tmp_path, arguments, line
):
    (tmp_path / 'empty/class0').mkdir(parents=True)
    said = ends_with(TOOL, 'tiny.py', checkpoint, *arguments)
    assert said.startswith(f'robustness.py: {line}') and '\n' not in said
    assert 'test images' not in capsys.readouterr().err


@pytest.mark.parametrize(
    'config, line',
    [
        ('tlalign_deit-digits_1xb32_digits', "class 0 is 'class0' in check"),
        (
            'lacvit_deit-mini_stage1_1xb128_cifar10',
            'is of a mmtlalign.LaCViT, not of a BaseClassifier',
        ),
    ],
)
def test_a_config_that_comes_along_is_taken_by_its_name(ends_with, checkpoint, config, line):
    assert line in ends_with(TOOL, config, checkpoint)


def test_swapped_arguments(ends_with, checkpoint):
    assert f"config '{checkpoint}' is no config" in ends_with(TOOL, checkpoint, 'tiny.py')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--fgsm', '1', 'nan'], '--fgsm nan must lie between 0 and 255'),
        (['--fgsm', '-3'], '--fgsm -3 must lie between 0 and 255'),
        (['--drop', '.5', '1.5'], '--drop 1.5 must lie between 0 and 1'),
        (['--patch-size', '-4'], '--patch-size -4 must be positive'),
    ],
)
def test_impossible_numbers(ends_with, capsys, arguments, message):
    assert ends_with(TOOL, 'tiny.py', 'a.pth', *arguments) == 2
    assert message in capsys.readouterr().err
