"""Configs in YAML and JSON are data."""

import json
import os
import pickle

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmtlalign.checkpoint  # noqa: F401
from mmtlalign.errors import UserError
from mmtlalign.resources import open_config

TOUCH = "open('ran', 'w').close()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """With code that would leave a trace; there is none in the end."""
    for path in ('evil.py', 'package/registry.py', 'package/__init__.py'):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(TOUCH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    assert not os.path.exists('ran')


@pytest.mark.parametrize('suffix', ['.yaml', '.yml', '.json'])
def test_what_mmengine_writes_comes_back(folder, suffix):
    cfg = open_config('tlalign_deit-digits_1xb32_digits')
    cfg.dump(folder / f'a{suffix}')
    read = open_config(folder / f'a{suffix}').to_dict()
    wanted = cfg.to_dict()
    if suffix == '.json':  # has no tuples
        wanted = json.loads(json.dumps(wanted))
    assert read == wanted


def test_a_base_is_data_as_well(folder):
    (folder / 'base.json').write_text('{"a": {"b": 1, "c": 2}}')
    (folder / 'a.yml').write_text('_base_: base.json\na: {b: 3}\nd: {{ _base_.a }}\n')
    assert open_config('a.yml').to_dict() == dict(a=dict(b=3, c=2), d=dict(b=1, c=2))


HOSTILE = [
    ('!!python/object/apply:os.system [touch ran]', 'could not determine a constructor'),
    ('a: !!python/name:os.system', 'could not determine a constructor'),
    ('_base_: evil.py', "its _base_ '.*evil.py' is Python"),
    ('_base_: [base.yaml]', "its _base_ '.*evil.py' is Python"),
    ('"{{$NOT_SET:_base_}}": evil.py', "its _base_ '.*evil.py' is Python"),
    ('_base_: mmpretrain::_base_/default_runtime.py', 'is Python'),
    ('custom_imports: {imports: [evil]}', 'custom_imports=.* names code to run'),
    ('"{{$NOT_SET:custom_imports}}": {imports: [evil]}', 'names code to run'),
    ('model: {type: os.system, command: touch ran}', "model.type='os.system' is a name in Python"),
    ('a: [{b: {type: mmengine.fileio.load}}]', r"a\.0\.b\.type='mmengine.fileio.load' is a name"),
    ('model: {type: package.X}', "model.type='package.X' is a name in Python"),
    ('optim_wrapper: {constructor: os.system}', "optim_wrapper.constructor='os.system' is a"),
    ('a: {type: exec("1")}', 'is no name'),
    ('default_scope: package', "default_scope='package' is none of mmpretrain, "),
    ('a: {_scope_: package}', "a._scope_='package' is none of mmpretrain, "),
    ('a: {type: mmdet.CameraMotionCompensation, warp_mode: exit()}', 'runs what its arguments'),
    ('a: {type: mmpretrain.RAMNormal, tag_list: a.pickle}', 'runs what its arguments'),
    ('a: {teacher_config: evil.py}', 'names code to run'),
    ('a: {type: mmpretrain.AutoModel, trust_remote_code: true}', 'names code to run'),
    ('a: {backend_args: {backend: memcached, sys_path: .}}', 'names code to run'),
    ('a: {type: torchvision/ConvertImageDtype, dtype: "half if exit() else 0"}', 'is no name'),
]


@pytest.mark.slow
@pytest.mark.parametrize('text, said', HOSTILE)
def test_code_is_refused(folder, text, said):
    (folder / 'base.yaml').write_text('_base_: evil.py')
    (folder / 'a.yaml').write_text(text)
    with pytest.raises(UserError, match=said) as error:
        open_config('a.yaml')
    assert '\n' not in str(error.value) and "'a.yaml'" in str(error.value)


def test_no_text_of_data_is_imported(folder):
    """Also where a part looks up a name of a key that no table has."""
    (folder / 'a.yaml').write_text('a: {unheard_of: [os.path.join, evil, mmengine.evil]}')
    for name in ('os.path.join', 'evil', 'mmengine.evil'):
        assert open_config('a.yaml').a.unheard_of and MODELS.get(name) is None
    assert MODELS.get('os.path.split') is os.path.split  # so the above can fail


def test_trust_permits_code_but_no_tags(folder):
    (folder / 'own.py').write_text('OWN = 1\n')
    (folder / 'a.yaml').write_text('custom_imports: {imports: [own]}\na: {type: os.getcwd}\n')
    assert open_config('a.yaml', trust=True).a.type == 'os.getcwd'
    # what Python names stays code
    (folder / 'b.py').write_text("_base_ = 'a.yaml'\nb = 1\n")
    assert open_config('b.py').a.type == 'os.getcwd'
    (folder / 'a.yaml').write_text(HOSTILE[0][0])
    with pytest.raises(UserError, match=HOSTILE[0][1]):
        open_config('a.yaml', trust=True)


def test_the_host_reads_yaml_and_pickles_as_data(folder):
    (folder / 'model-index.yml').write_text(HOSTILE[0][0])
    for read in (mmengine.load, Config.fromfile):
        with pytest.raises(Exception, match=HOSTILE[0][1]):
            read('model-index.yml')
    (folder / 'a.pkl').write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match='os.system'):
        mmengine.load('a.pkl')


def test_results_in_pickles_come_back():
    content = [dict(scores=torch.arange(3.0), boxes=np.ones((2, 4)), names=('a', {'b'}))]
    mmengine.dump(content, 'a.pkl')
    (read,) = mmengine.load('a.pkl')
    assert read['names'] == ('a', {'b'}) and read['scores'].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(read['boxes'], content[0]['boxes'])
