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
    said = rf"'a.pth': its config is more .*{reason}.* pass --trust if you trust whoever made"
    with pytest.raises(UserError, match=said):
        read_config(FALLING + text, 'a.pth', trust=False)
    assert not (tmp_path / 'trace').exists()


NAME = 'tlalign_deit-mini_1xb128_cifar10'
COMMAND = f'python tools/train.py configs/classification/tlalign/{NAME}.py'


@pytest.mark.slow
def test_configs_are_read_as_mmengine_reads_them():
    text = Config.fromfile(find_config(NAME)).pretty_text
    assert read_config(text, 'a.pth', trust=False).to_dict() == (
        Config.fromstring(text, '.py').to_dict()
    )


def test_all_literals_are_read():
    text = "a = dict({'b.c': dict(d=-1e-3), 5: None}, e=(True, ), f=[[], (), {}])\n"
    text += "g = {'h': 'dict(i=1)'}\n"
    assert read_config(text, 'a.pth', False).to_dict() == dict(
        a={'b.c': dict(d=-1e-3), 5: None, 'e': (True,), 'f': [[], (), {}]}, g=dict(h='dict(i=1)')
    )


def train_as(options):
    """The config of a training with options, as its checkpoint holds it."""
    cfg = Config.fromfile(find_config(NAME))
    cfg.merge_from_dict(options)
    cfg.merge_from_dict(dict(launcher='none', work_dir='work_dirs/a', resume=True, load_from=None))
    return cfg


OPTIONS = {
    'auto_scale_lr': None,
    'model.backbone.init_cfg.checkpoint': 'a/b.pth',
    'model.backbone.new.deep': [(1, 2.5), ('a', True)],
    'model.backbone.out_indices': (0,),
    'optim_wrapper.optimizer.lr': 1e-4,
    'randomness.seed': 7,
}


@pytest.mark.slow
def test_the_command_repeats_the_training():
    trained = train_as(OPTIONS)
    command, beyond = find_command(trained, NAME, trained.randomness.seed)
    assert command == (
        f'{COMMAND} --cfg-options auto_scale_lr=None '
        "model.backbone.init_cfg.checkpoint=a/b.pth 'model.backbone.new.deep=[(1,2.5),(a,True)]' "
        "'model.backbone.out_indices=(0,)' optim_wrapper.optimizer.lr=0.0001 randomness.seed=7"
    )
    assert beyond == ''
    again = train_as(
        dict(('.'.join(keys), value) for keys, value in map(read_option, shlex.split(command)[4:]))
    )
    assert again.to_dict() == trained.to_dict()


def test_what_no_option_says_is_told():
    options = {'randomness.seed': None, 'model.backbone.arch': 'b', 'data_hint': ''}
    for key, value in dict(a='two words', b='half a (bracket', c='12', d='x,y').items():
        options[f'env_cfg.{key}'] = value
    trained = train_as(options)
    trained.custom_hooks.append(dict(type='EMAHook'))
    trained.pop('auto_scale_lr')
    trained.env_cfg['e.f'] = 1
    command, beyond = find_command(trained, NAME, 3)
    assert command.endswith(' --cfg-options model.backbone.arch=b randomness.seed=3')
    others = 'env_cfg.a, env_cfg.b, env_cfg.c, env_cfg.d, env_cfg.e.f'
    assert beyond == f'differences in auto_scale_lr, custom_hooks, {others}'


def test_where_training_began_is_an_option_unless_resumed():
    trained = train_as({})
    trained.load_from = 'a.pth'
    assert find_command(trained, NAME, trained.randomness.seed) == (COMMAND, '')
    trained.resume = False
    assert find_command(trained, NAME, 0)[0].endswith(' --cfg-options load_from=a.pth')


def write_log(folder, time, *records):
    log = folder / time / 'vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(f'{json.dumps(record)}\n' for record in records))
    return log


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
        if record and not by_epoch:
            record = dict(iter=record['iter'], step=max(record['step'], 50))
        write_log(tmp_path, time, *[record, dict(part=i, step=1)] if record else [])
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
        records = [dict(step=int(name.strip('V-')), name=name) for name in part.split()]
        log = write_log(tmp_path, f'2026010{i}_000000', *records)
        log.write_text(log.read_text()[: -5 if part.endswith('-') else None])
    lines = read_log(str(tmp_path / 'a.pth'), {}).splitlines()
    assert ' '.join(json.loads(line)['name'] for line in lines) == expected


def test_legs_tell_the_order_where_a_clock_was_set_back(tmp_path):
    legs = []
    for day, epoch, step in (('05', 1, 50), ('03', 1, 60), ('04', 2, 100)):
        time = f'202601{day}_000000'
        write_log(tmp_path, time, dict(epoch=epoch, step=step))
        legs.append(dict(time=time, iter=step - 10, changes=[], processes=1))
    meta = dict(experiment_name='a_20260104_000000')
    for more, expected in (({}, [60, 100]), (dict(legs=legs), [50, 60, 100])):
        lines = read_log(str(tmp_path / 'a.pth'), meta | more).splitlines()
        assert [json.loads(line)['step'] for line in lines] == expected


def test_what_is_published_tells_what_legs_changed():
    begun = dict(iter=0, processes=1, changes=[])
    resumed = dict(iter=30, processes=2, changes=['lr was 1 and is 2'])
    assert tell_legs({}) == []
    assert tell_legs(dict(legs=[begun, resumed])) == [
        'from iteration 30 on: lr was 1 and is 2',
        'parts ran with 1 and 2 processes',
    ]


def test_a_leg_names_no_folder_elsewhere(tmp_path):
    write_log(tmp_path, 'other', dict(step=1))
    assert read_log(str(tmp_path / 'run/a.pth'), dict(legs=[dict(time='../other')])) == ''


@pytest.mark.parametrize('text', ['garbage\n', '{"a": 1}\n', '[1]\n', '{"step": "x"}\n'])
def test_a_damaged_log_is_named(tmp_path, text):
    log = write_log(tmp_path, 'one')
    log.write_text(text)
    with pytest.raises(UserError, match=f"'{log}' is no log of a training"):
        read_log(str(tmp_path / 'a.pth'), dict(legs=[dict(time='one')]))
