"""What a file of torch.save may hold, and what it may not."""

import argparse
import os
import pathlib
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from mmtlalign.checkpoint import check_checkpoint, load_checkpoint_safely
from mmtlalign.checkpoint.saved_data import NotData, read_saved_data
from mmtlalign.errors import UserError
from projects.reliability.corpus import OBJECTS, PROGRAMS, TRACE, Call, write_archive

FORMATS = [(archive, protocol) for archive in (True, False) for protocol in (2, 3, 4, 5)]

# What is saved, and what it is read as.
SAME = [
    *(None, True, 7, -(2**70), 0.5, 'text', b'', b'\xff', 1j, slice(1, None)),
    *(bytearray(b'\xff'), bytearray(), (1, (2,)), [1, [2]], {'a': {3: 4}}, {1, 2}, frozenset([1])),
    *(OrderedDict(b=1, a=2), Counter('aab')),
    *(torch.float16, torch.strided, torch.Size([2, 3]), torch.device('cuda', 1)),
    *(np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3))), np.zeros((0, 2))),
    *(np.array([True]), np.array(['ab']), np.array([b'a']), np.ones(2, np.uint32)),
    *(np.ones(2, complex), np.dtype('int16'), np.float64(0.5), np.int32(3), np.bool_(True)),
    *(torch.tensor([True]), torch.ones(2).half(), torch.ones(2).bfloat16()),
    *(torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.uint8)),
    *(torch.tensor(7), torch.empty(0, 3), nn.Parameter(torch.ones(2))),
]
WHOLE = torch.arange(12.0)
VIEWS = [WHOLE, WHOLE[2:8], WHOLE[::2], WHOLE.view(3, 4).T]
# what the older format cannot hold
NEW = [torch.ones(2, dtype=torch.uint16), torch.ones(2, dtype=torch.float8_e4m3fn)]
READ_AS = [
    (argparse.Namespace(lr=0.1, sub=argparse.Namespace(a=1)), dict(lr=0.1, sub=dict(a=1))),
    (ConfigDict(a=ConfigDict(b=[1])), dict(a=dict(b=[1]))),
    (Config(dict(a=dict(b=1))), dict(a=dict(b=1))),
    (pathlib.PurePosixPath('a/b'), 'a/b'),
    (pathlib.PureWindowsPath('a/b'), 'a\\b'),
]


def save(path, content, archive=True, protocol=2):
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    return str(path)


def hand_made(folder, content):
    write_archive(folder / 'hand-made.pth', content)
    return str(folder / 'hand-made.pth')


def alike(own, other):
    if isinstance(other, torch.Tensor):
        kinds = [(type(x), x.dtype, x.requires_grad, x.stride()) for x in (own, other)]
        return kinds[0] == kinds[1] and torch.equal(own, other)
    if isinstance(other, (np.ndarray, np.generic)):
        return type(own) is type(other) and np.array_equal(own, other)
    return (type(own) is type(other) or isinstance(own, dict)) and own == other


@pytest.mark.parametrize('archive, protocol', FORMATS)
def test_what_is_saved_comes_back(tmp_path, archive, protocol):
    same = VIEWS + SAME + (NEW if archive else [])
    content = same + [saved for saved, _ in READ_AS]
    found = read_saved_data(save(tmp_path / 'a', content, archive, protocol))
    for own, other in zip(found, same + [read for _, read in READ_AS], strict=True):
        assert alike(own, other), other
    found[0][2] = -1  # a view of it is one still
    assert found[1][0] == -1


@pytest.mark.parametrize('kind, start', [(dict, {}), (list, [])])
def test_a_defaultdict_keeps_its_default(tmp_path, kind, start):
    content = defaultdict(kind, {1: start})
    found = read_saved_data(save(tmp_path / 'a', content))
    assert found == content and found[2] == start


def test_arrays_of_either_numpy_are_read(tmp_path):
    """Its modules were renamed in version 2."""
    content = pickle.dumps([np.arange(3), np.float64(0.5)], 2)
    new, old = b'numpy._core.multiarray', b'numpy.core.multiarray'
    for name, other in (new, old), (old, new):
        array, scalar = read_saved_data(hand_made(tmp_path, content.replace(name, other)))
        assert array.tolist() == [0, 1, 2] and scalar == 0.5


def test_a_tensor_with_attributes_is_rebuilt_plain(tmp_path):
    tensor = torch.arange(3.0)
    tensor.note = 'an attribute'
    found = read_saved_data(save(tmp_path / 'a', tensor))
    assert found.tolist() == [0, 1, 2] and not hasattr(found, 'note')


def test_versions_of_modules_are_kept(tmp_path):
    state = nn.BatchNorm2d(1).state_dict()
    found = read_saved_data(save(tmp_path / 'a', state))
    assert found._metadata == state._metadata and found._metadata['']


def test_a_log_goes_on(tmp_path):
    hub = MessageHub('saved')
    for value in 3.0, 4.0:
        hub.update_scalar('train/loss', value)
    hub.update_info('epoch', 2)
    other = MessageHub('read')
    other.load_state_dict(read_saved_data(save(tmp_path / 'a', hub.state_dict())))
    other.update_scalar('train/loss', 8.0)
    assert other.get_scalar('train/loss').data[0].tolist() == [3, 4, 8]
    assert other.get_scalar('train/loss').mean() == 5
    assert other.get_info('epoch') == 2


HOSTILE = OBJECTS | {
    'an attribute of a class': Call(getattr, HistoryBuffer, '__init__'),
    'an attribute of data': Call(getattr, 'text', 'mean'),
    'only a default': defaultdict(os.getcwd),
    'only objects in an array': np.array([None, {}]),
    'a wrapper': Call(
        torch._utils._rebuild_wrapper_subclass,
        *(Call, torch.half, (1,), (1,), 0, torch.strided, 'cpu', False),
    ),
    'a class': argparse.ArgumentParser,
    'a plain module': nn.Linear(1, 1),
}


@pytest.mark.parametrize('archive', [True, False])
@pytest.mark.parametrize('kind', HOSTILE)
def test_nothing_is_called(tmp_path, monkeypatch, kind, archive):
    path = save(tmp_path / 'a.pth', dict(more=HOSTILE[kind]), archive)
    monkeypatch.chdir(tmp_path)
    said = r"/a\.pth' holds more than weights \(.*\), and reading that can run any code; .* --trust"
    with pytest.raises(UserError, match=said) as error:
        load_checkpoint_safely(path)
    assert '\n' not in str(error.value)
    assert not os.path.exists(TRACE)


@pytest.mark.parametrize(
    'content',
    [
        *(program.encode('latin1') for program in PROGRAMS.values()),
        b"S'os'\nS'system'\n\x93.",
        # os.system as what a table knows: data is never called
        b"S'os.system'\nS'touch ran'\n\x85R.",
        b"S'builtins.set'\n)R.",
        b"S'argparse.Namespace'\n)\x81.",
        # operations that call or look up by themselves, even of what a table knows
        *(b'cargparse\nNamespace\n)}\x92.', b'(cargparse\nNamespace\no.'),
        *(b'(iargparse\nNamespace\n.', b'\x82\x01.'),
    ],
)
def test_hand_made_programs_are_not_run(tmp_path, monkeypatch, content):
    (tmp_path / 'plain.pth').write_bytes(content)
    monkeypatch.chdir(tmp_path)
    for path in hand_made(tmp_path, content), 'plain.pth':
        with pytest.raises(UserError, match='holds more than weights|cannot be r'):
            load_checkpoint_safely(path)
    assert not os.path.exists(TRACE)


def test_the_list_of_mmengine_would_run_it(tmp_path, monkeypatch):
    """So the test above can fail."""
    path = save(tmp_path / 'a.pth', OBJECTS['getattr'])
    monkeypatch.chdir(tmp_path)
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        torch.load(path, weights_only=True)
    assert os.path.exists(TRACE)


@pytest.mark.parametrize(
    'name',
    [
        'mmengine.logging.history_buffer\nHistoryBuffer',
        'torch\nTensor',
        'collections\nOrderedDict',
        'torch._utils\n_rebuild_tensor_v2',
        'argparse\nNamespace',
    ],
)
@pytest.mark.parametrize('state', [{'mean': 1}, (None, {'mean': 1})])
def test_no_class_or_function_is_changed(tmp_path, name, state):
    content = b'c' + name.encode() + b'\n' + pickle.dumps(state, 2)[2:-1] + b'b.'
    with pytest.raises(NotData, match=name.split('\n')[1]):
        read_saved_data(hand_made(tmp_path, content))


def test_statistics_of_all_logs_stay_what_they_are(tmp_path):
    buffer = HistoryBuffer([1.0], [1])
    before = dict(HistoryBuffer._statistics_methods)
    buffer._statistics_methods = dict(before, mean='text', more='text')
    found = read_saved_data(save(tmp_path / 'a', buffer))
    assert HistoryBuffer._statistics_methods == before
    assert found.statistics('mean') == 1
    assert not hasattr(found, 'statistics_methods')


@pytest.mark.parametrize(
    'change',
    [
        dict(_log_history=np.ones((1, 1))),
        dict(_log_history=['text']),
        dict(max_length='text'),
        dict(_count_history=np.ones(2)),
    ],
)
def test_a_log_of_other_things_than_numbers(tmp_path, change):
    buffer = HistoryBuffer([1.0], [1])
    buffer.__dict__.update(change)
    path = save(tmp_path / 'a.pth', dict(more=buffer))
    with pytest.raises(UserError, match='cannot be read .* it is damaged or'):
        load_checkpoint_safely(path)


@pytest.mark.parametrize(
    'state, old, new',
    [
        (torch.ones(3), b'K\x03\x85', b'K\x04\x85'),
        (torch.empty(0), b'K\x00\x85', b'K\x04\x85'),
        (np.ones(8), b'K\x08\x85', b'J\xff\xff\xff\xffJ\xf8\xff\xff\xff\x86'),
    ],
)
def test_memory_outside_is_not_read(tmp_path, state, old, new):
    """The archive anew, with its pickle changed and checksums that fit."""
    path = save(tmp_path / 'a.pth', dict(more=state))
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    (pickled,) = (name for name in members if name.endswith('data.pkl'))
    assert old in members[pickled]
    members[pickled] = members[pickled].replace(old, new)
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(UserError, match='cannot be read'):
        load_checkpoint_safely(path)


@pytest.mark.parametrize('archive', [True, False])
def test_a_number_does_not_become_a_million_millions(tmp_path, archive):
    few = torch.ones(2, 1).expand(2, 5)
    assert torch.equal(read_saved_data(save(tmp_path / 'few', few, archive)), few)
    many = dict(state_dict=dict(a=torch.ones(1).expand(10**12)))
    with pytest.raises(UserError, match='1000000000000 numbers that repeat a few'):
        load_checkpoint_safely(save(tmp_path / 'a.pth', many, archive))


@pytest.mark.parametrize('archive', [True, False])
def test_a_damaged_file_is_said_to_be_one(tmp_path, archive):
    path = tmp_path / 'a.pth'
    save(path, dict(a=torch.ones(100), b=torch.ones(2).half()), archive)
    content = path.read_bytes()
    cut_short = [content[:length] for length in range(0, len(content) - 1, 37)]
    for damaged in *cut_short, b'not a checkpoint', b'PK\x03\x04':
        path.write_bytes(damaged)
        with pytest.raises(UserError, match='cannot be read') as error:
            load_checkpoint_safely(str(path))
        assert 'weights_only' not in str(error.value)  # no advice to run its code


@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize(
    'kind, tensor',
    [
        ('sparse', torch.eye(2).to_sparse()),
        ('sparse', torch.eye(2).to_sparse_csr()),
        ('meta-device', torch.ones(1, device='meta')),
        ('quantized', torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8)),
    ],
)
def test_other_tensors_are_named(tmp_path, kind, tensor, trust):
    path = save(tmp_path / 'a.pth', dict(state_dict=dict(weight=tensor)))
    with pytest.raises(UserError, match=f'holds {kind} tensors; only dense'):
        check_checkpoint(nn.Linear(1, 1, bias=False), path, trust)


def test_names_cannot_reach_the_terminal(tmp_path):
    path = hand_made(tmp_path, b'c\x1b[31mos\nsystem\x07\n.')
    with pytest.raises(UserError, match=r"\('\\x1b\[31mos.system\\x07'\)"):
        load_checkpoint_safely(path)
