"""What a training records about itself, read without running it."""

import json
import re
import shlex

import pytest
from mmengine.config import Config

from mmtlalign.checkpoint.training_record import (
    find_command,
    read_config,
    read_log,
    read_option,
    tell_legs,
)
from mmtlalign.errors import UserError
from mmtlalign.resources import find_config

CODE = "__import__('os').system('touch trace')"
FALLING = "model = dict(type='mmtlalign.Falling')\n"


@pytest.mark.parametrize(
    'text, reason',
    [
        (f'a = {CODE}', 'line 2'),
        (f'a = [dict(b=({CODE}, ))]', 'line 2'),
        (f'a = f"{{{CODE}}}"', 'line 2'),
        (f"a = dict(**{{'b': {CODE}}})", 'line 2'),
        (f'{CODE}', 'no assignment on line 2'),
        (f'a: {CODE} = 1', 'no assignment on line 2'),
        (f'class A: {CODE}', 'no assignment on line 2'),
        (f'a.b = {CODE}', 'line 2'),
        ('a.b = 1', "no attribute 'id'"),
        ('a =', 'invalid syntax'),
        ("custom_imports = dict(imports=['trace'])", 'custom_imports'),
    ],
)
def test_no_line_of_a_config_is_run(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match=rf"'a.pth': its config is more .*"
        rf'{reason}.* pass --trust if you trust whoever made',
    ):
        read_config(FALLING + text, 'a.pth', trust=False)
    assert not (tmp_path / 'trace').exists()


NAMES = [
    'tlalign_deit-digits_1xb32_digits',
    'tlalign_swin-tiny_16xb64_in1k',
    'faster-rcnn_tlalign-deit-mini_sfp_1xb2_bccd',
]


@pytest.mark.parametrize('name', NAMES)
def test_configs_are_read_as_mmengine_reads_them(name):
    text = Config.fromfile(find_config(name)).pretty_text
    assert read_config(text, 'a.pth', trust=False).to_dict() == (
        Config.fromstring(text, '.py').to_dict()
    )


def test_all_literals_are_read():
    text = """
a = dict({'b.c': dict(d=-1e-3), 5: None}, e=(True, ), f=[[], (), {}])
g = {'h': 'dict(i=1)'}
"""
    assert read_config(text, 'a.pth', False).to_dict() == dict(
        a={'b.c': dict(d=-1e-3), 5: None, 'e': (True,), 'f': [[], (), {}]}, g=dict(h='dict(i=1)')
    )


def train_as(options, name=NAMES[-1]):
    """The config of a training with options, as its checkpoint holds it."""
    cfg = Config.fromfile(find_config(name))
    cfg.merge_from_dict(options)
    cfg.merge_from_dict(dict(launcher='none', work_dir='work_dirs/a', resume=True, load_from=None))
    return cfg


@pytest.mark.parametrize(
    'options, written',
    [
        ({}, ''),
        (
            {'randomness.seed': 7, 'model.backbone.init_cfg.checkpoint': 'a/b.pth'},
            ' --cfg-options model.backbone.init_cfg.checkpoint=a/b.pth randomness.seed=7',
        ),
        ({'model.backbone.init_cfg': None}, ' --cfg-options model.backbone.init_cfg=None'),
        (
            {
                'optim_wrapper.optimizer.lr': 1e-4,
                'model.backbone.out_indices': (0,),
                'model.backbone.new.deep': [(1, 2.5), ('a', True)],
            },
            " --cfg-options 'model.backbone.new.deep=[(1,2.5),(a,True)]' "
            "'model.backbone.out_indices=(0,)' optim_wrapper.optimizer.lr=0.0001",
        ),
    ],
)
def test_the_command_repeats_the_training(options, written):
    trained = train_as(options)
    command, beyond = find_command(trained, NAMES[-1], trained.randomness.seed)
    assert command == (f'python tools/train.py configs/detection/tlalign/{NAMES[-1]}.py{written}')
    assert beyond == ''
    again = train_as(
        dict(('.'.join(keys), value) for keys, value in map(read_option, shlex.split(command)[4:]))
    )
    assert again.to_dict() == trained.to_dict()


def test_what_no_option_says_is_told():
    trained = train_as(
        {
            'randomness.seed': None,
            'model.backbone.arch': 'b',
            'data_hint': '',
            'env_cfg.a': 'two words',
            'env_cfg.b': 'half a (bracket',
            'env_cfg.c': '12',
            'env_cfg.d': 'x,y',
        }
    )
    trained.custom_hooks.append(dict(type='EMAHook'))
    trained.pop('auto_scale_lr')
    trained.env_cfg['e.f'] = 1
    command, beyond = find_command(trained, NAMES[-1], 3)
    assert command.endswith(' --cfg-options model.backbone.arch=b randomness.seed=3')
    assert beyond == 'differences in ' + ', '.join(
        [
            'auto_scale_lr',
            'custom_hooks',
            'env_cfg.a',
            'env_cfg.b',
            'env_cfg.c',
            'env_cfg.d',
            'env_cfg.e.f',
        ]
    )


def test_where_training_began_is_an_option_unless_resumed():
    trained = train_as({})
    trained.load_from = 'a.pth'
    assert 'load_from' not in find_command(trained, NAMES[-1], 0)[0]
    trained.resume = False
    assert find_command(trained, NAMES[-1], 0)[0].endswith(' --cfg-options load_from=a.pth')


# Times of parts of trainings, and of what is first in the log of each
PARTS = {
    '20260101_000000': dict(epoch=1, iter=10, step=10),
    '20260102_000000': dict(epoch=1, iter=50, step=50),  # anew
    '20260103_000000': None,  # killed before the first line
    '20260104_000000': dict(epoch=3, iter=150, step=150),  # resumed
    '20260105_000000': dict(epoch=1, iter=50, step=50),
}  # anew


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('end, parts', [('01', '1'), ('02', '2'), ('04', '24'), ('05', '5')])
def test_only_the_log_of_this_training(tmp_path, by_epoch, end, parts):
    for i, (time, record) in enumerate(PARTS.items(), 1):
        log = tmp_path / time / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        if record and not by_epoch:
            record = dict(iter=record['iter'], step=max(record['step'], 50))
        log.write_text(
            '' if record is None else (json.dumps(record) + f'\n{{"part": {i}, "step": 1}}\n')
        )
    text = read_log(str(tmp_path / 'epoch_4.pth'), dict(experiment_name=f'name_202601{end}_000000'))
    assert ''.join(re.findall(r'"part": (\d)', text)) == parts
    assert read_log(str(tmp_path / 'a/b.pth'), {}) == ''


# Steps of a training that was killed twice, with validations (V), and what is left: in epochs of 50
# iterations, the first kill in the midst of a line; and in iterations
@pytest.mark.parametrize(
    'parts, expected',
    [
        (
            ('25 50 V1 75 100 V2 125 150-', '125 150 V3 175', '175 200 V4'),
            '25 50 V1 75 100 V2 125 150 V3 175 200 V4',
        ),
        (('V20 V40 50', 'V40 50 V60 V80 100', 'V80 100 V100'), 'V20 V40 50 V60 V80 100 V100'),
    ],
)
def test_a_resumed_log_holds_no_step_twice(tmp_path, parts, expected):
    for i, part in enumerate(parts):
        log = tmp_path / f'2026010{i}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        text = ''.join(
            json.dumps(dict(step=int(name.strip('V-')), name=name)) + '\n' for name in part.split()
        )
        log.write_text(text[:-5] if part.endswith('-') else text)
    lines = read_log(str(tmp_path / 'a.pth'), {}).splitlines()
    assert ' '.join(json.loads(line)['name'] for line in lines) == expected


def test_legs_tell_the_order_where_a_clock_was_set_back(tmp_path):
    legs = []
    for time, epoch, step in (('05', 1, 50), ('03', 1, 60), ('04', 2, 100)):
        log = tmp_path / f'202601{time}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps(dict(epoch=epoch, step=step)) + '\n')
        legs.append(dict(time=f'202601{time}_000000', iter=step - 10, changes=[], processes=1))
    meta = dict(experiment_name='a_20260104_000000')
    assert [
        json.loads(line)['step'] for line in read_log(str(tmp_path / 'a.pth'), meta).splitlines()
    ] == [60, 100]
    assert [
        json.loads(line)['step']
        for line in read_log(str(tmp_path / 'a.pth'), dict(meta, legs=legs)).splitlines()
    ] == [50, 60, 100]


def test_what_is_published_tells_what_legs_changed():
    assert tell_legs({}) == []
    assert tell_legs(
        dict(
            legs=[
                dict(iter=0, processes=1, changes=[]),
                dict(iter=30, processes=2, changes=['lr was 1 and is 2']),
            ]
        )
    ) == ['from iteration 30 on: lr was 1 and is 2', 'parts ran with 1 and 2 processes']


def test_a_leg_names_no_folder_elsewhere(tmp_path):
    run, other = tmp_path / 'run', tmp_path / 'other/vis_data/scalars.json'
    other.parent.mkdir(parents=True)
    other.write_text('{"step": 1}\n')
    assert read_log(str(run / 'a.pth'), dict(legs=[dict(time='../other')])) == ''


@pytest.mark.parametrize('text', ['garbage\n', '{"a": 1}\n', '[1]\n', '{"step": "x"}\n'])
def test_a_damaged_log_is_named(tmp_path, text):
    log = tmp_path / 'one/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(text)
    with pytest.raises(UserError, match=f"'{log}' is no log of a training"):
        read_log(str(tmp_path / 'a.pth'), dict(legs=[dict(time='one')]))
