"""What ``torch.save`` has written, read as data: nothing in it is called.

A pickle is a program that may name any function and have it called. Here a name stays a name: it is
never looked up, only found in one of the tables below, which say how to rebuild plain data from
plain data. Whatever is in none of them is refused.
"""

import pickle
import struct
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from pickle import UnpicklingError
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

# How files of torch before 1.6 begin, which are no archives.
MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
# Operations that find or call something by themselves.
REFUSED = pickle.INST + pickle.OBJ + pickle.NEWOBJ_EX + pickle.EXT1 + pickle.EXT2 + pickle.EXT4
BUFFER = 'mmengine.logging.history_buffer.HistoryBuffer'
MAX_REPEATED = 2**28  # numbers of a tensor that is larger than what is stored of it
STATISTICS = ('min', 'max', 'current', 'mean')


class NotData(UnpicklingError):
    """A name that no table knows, or knows for something else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Name(str):
    """Of a function or class; never the function or class itself."""


class Attributes(dict):
    """What an object had, by attribute, without the object."""


class Storage(NamedTuple):
    """Memory of tensors, and what kind of numbers it holds."""

    data: torch.UntypedStorage
    dtype: torch.dtype


def read_saved_data(path: str | Path):
    """Read a file of ``torch.save`` onto the CPU.

    Tensors come back without attributes, gradients and classes of their own, an
    ``argparse.Namespace`` and mmengine's configs as dicts, paths as strings; a ``HistoryBuffer`` is
    a new one that holds the old one's values. The archive's own checksums are verified.

    Raises:
        NotData: If the file holds anything else that is no plain data.
        Exception: Any, if it is damaged.
    """
    with open(path, 'rb') as file:
        is_archive = file.read(4) == b'PK\x03\x04'
        file.seek(0)
        return _read_archive(file) if is_archive else _read_stream(file)


def _read_archive(file: BinaryIO):
    """Of torch 1.6 and later: a pickle, and a member for each storage."""
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError('members are compressed')
        (content,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        folder = content.removesuffix('data.pkl')
        if f'{folder}byteorder' in archive.namelist() and (
            archive.read(f'{folder}byteorder') != b'little'
        ):
            raise ValueError('not written in little-endian order')
        storages = {}

        def find_storage(dtype, key, location, numel):
            if key not in storages:
                storages[key] = _allocate(archive.read(f'{folder}data/{key}'))
            return Storage(storages[key], dtype)

        return Unpickler(BytesIO(archive.read(content)), find_storage).load()


def _read_stream(file: BufferedReader | BytesIO):
    """Of torch before 1.6: several pickles, then the storages."""
    if Unpickler(file).load() != MAGIC_NUMBER:
        raise ValueError('not written by torch.save')
    if Unpickler(file).load() != PROTOCOL_VERSION:
        raise ValueError('written by an unknown version of torch.save')
    if not Unpickler(file).load()['little_endian']:
        raise ValueError('not written in little-endian order')
    memory, dtypes, views = {}, {}, {}

    def find_storage(dtype, key, location, numel, view=None):
        if key not in memory:
            memory[key] = bytearray(numel * dtype.itemsize)
            dtypes[key] = dtype
            views[key] = _allocate(memory[key])
        if view is None:
            return Storage(views[key], dtype)
        view_key, offset, size = view
        start = offset * dtype.itemsize
        if view_key not in views:
            views[view_key] = views[key][start : start + size * dtype.itemsize]
        return Storage(views[view_key], dtype)

    content = Unpickler(file, find_storage).load()
    for key in Unpickler(file).load():
        (numel,) = struct.unpack('<q', file.read(8))
        if numel * dtypes[key].itemsize != len(memory[key]) or file.readinto(memory[key]) != len(
            memory[key]
        ):
            raise EOFError(f'storage {key!r} is cut short')
    return content


def _allocate(content: bytes | bytearray) -> torch.UntypedStorage:
    """Memory that holds these bytes; a bytearray itself, not a copy."""
    if not content:
        return torch.UntypedStorage(0)
    if isinstance(content, bytes):
        content = bytearray(content)
    return torch.frombuffer(content, dtype=torch.uint8).untyped_storage()


class Operations(dict):
    """Those of a pickle, by code; the others are refused."""

    def __missing__(self, code: int):
        raise UnpicklingError(f'{bytes([code])!r} is no operation that data need')


class Unpickler(pickle._Unpickler):
    """Reads one pickle of any protocol from where a file stands.

    The standard library's reader, but that a name stays a name, and that each operation that would
    call or change what a name stands for asks the tables below, or is none.

    Args:
        file (BinaryIO): Left behind the pickle.
        find_storage (callable, optional): Gives the :class:`Storage` for what
            torch writes in its place. Defaults to None: there are none.
    """

    stack: list
    readline: Callable[[], bytes]
    dispatch = Operations(
        (code, load) for code, load in pickle._Unpickler.dispatch.items() if code not in REFUSED
    )

    def __init__(self, file: BinaryIO, find_storage=None) -> None:
        super().__init__(file, encoding='latin1')
        self.find_storage = find_storage

    def find_class(self, module: str, name: str):
        """A dtype, or a name that a table knows."""
        if module == '__builtin__':  # protocol 2 writes for Python 2
            module = 'builtins'
        full = f'{module}.{name}'
        if full in DTYPES:
            return DTYPES[full]
        if not (full in REBUILD or full in OBJECTS or full in STORAGES or full in BY_NAME_ONLY):
            raise NotData(full)
        return Name(full)

    def load_global(self) -> None:
        module, name = self.readline(), self.readline()
        if not name.endswith(b'\n'):
            raise EOFError('cut short')
        self.stack.append(self.find_class(module[:-1].decode(), name[:-1].decode()))

    def persistent_load(self, pid) -> Storage:
        kind, storage, *where = _expect(pid, tuple)
        if kind != 'storage' or storage not in STORAGES:
            raise NotData(str(storage))
        return self.find_storage(STORAGES[storage], *where)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _rebuild(self.stack[-1], *_expect(arguments, tuple))

    def load_newobj(self) -> None:
        arguments, name = self.stack.pop(), self.stack[-1]
        if type(name) is not Name or name not in OBJECTS or arguments != ():
            raise NotData(str(name))
        self.stack[-1] = OBJECTS[name]()

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        for kind, set_state in SET_STATE.items():
            if isinstance(target, kind):
                return set_state(target, state)
        raise NotData(target if isinstance(target, Name) else type(target).__name__)

    dispatch[pickle.GLOBAL[0]] = load_global
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _expect(value, kind: type):
    """The value, of a class that its opcode is for."""
    if not isinstance(value, kind):
        raise ValueError(f'a {type(value).__name__} in place of a {kind.__name__}')
    return value


def _rebuild(name: Name, *arguments):
    """What a call of the name would have made."""
    if type(name) is not Name or name not in REBUILD:
        raise NotData(str(name))
    return REBUILD[name](*arguments)


def _tensor(
    storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None
) -> Tensor:
    if metadata:
        raise ValueError('a conjugate or negative view of a tensor')
    numbytes = _expect(storage, Storage).data.nbytes()
    tensor = torch.empty(0, dtype=storage.dtype).set_(storage.data, offset, size, stride)
    if storage.data.nbytes() != numbytes:  # torch has enlarged it
        raise ValueError('a tensor larger than its storage')
    if tensor.numel() > max(numbytes, MAX_REPEATED):  # of strides of zero
        raise ValueError(f'a tensor of {tensor.numel()} numbers that repeat a few')
    return tensor


def _tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None) -> Tensor:
    return _tensor(
        Storage(_expect(storage, Storage).data, dtype), offset, size, stride, metadata=metadata
    )


def _parameter(data, requires_grad, *_) -> nn.Parameter:
    return nn.Parameter(_expect(data, Tensor), bool(requires_grad))


def _without_attributes(function, kind, arguments, state) -> Tensor:
    return _expect(_rebuild(function, *arguments), Tensor)


def _no_statistics(buffer, name) -> None:
    """Not the method that getattr would give; every buffer has its own."""
    if buffer != BUFFER or name not in STATISTICS:
        raise NotData('builtins.getattr')


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'bytes written as {encoding!r}')
    return text.encode('latin1')


def _defaultdict(factory) -> defaultdict:
    return defaultdict({'builtins.dict': dict, 'builtins.list': list}[factory])


def _dtype(code, *_) -> np.dtype:
    dtype = np.dtype(_expect(code, str))
    if dtype.kind not in 'biufcSU':
        raise NotData(f'numpy.dtype({code!r:.20})')
    return dtype


def _check_dtype(dtype: np.dtype, state) -> None:
    """Its state says nothing that its code has not said."""
    version, order, *fields = state
    if order not in '<|=' or any(fields[:3]):
        raise ValueError(f'a dtype with state {state!r:.50}')


def _scalar(dtype, content) -> np.generic:
    return np.frombuffer(content, _expect(dtype, np.dtype), count=1)[0]


def _array(content, dtype, shape, order) -> np.ndarray:
    return np.frombuffer(content, _expect(dtype, np.dtype)).reshape(shape, order=order)


def _fill_array(array: np.ndarray, state) -> None:
    version, shape, dtype, is_fortran, content = state
    if min(shape, default=0) < 0:
        raise ValueError(f'an array of shape {shape}')
    if isinstance(content, str):  # of Python 2
        content = content.encode('latin1')
    content = _expect(content, bytes)
    state = (1, shape, _expect(dtype, np.dtype), bool(is_fortran), content)
    array.__setstate__(state)  # type: ignore[arg-type]  # numpy asks for its bool


def _fill_buffer(buffer: HistoryBuffer, state) -> None:
    log, count = (np.array(state[key]) for key in ('_log_history', '_count_history'))
    if not all(values.ndim == 1 and values.dtype.kind in 'biuf' for values in (log, count)):
        raise ValueError('a HistoryBuffer of other things than numbers')
    buffer.__init__(log, count, int(state['max_length']))


def _fill_attributes(attributes: Attributes, state) -> None:
    if isinstance(state, tuple):  # of mmengine's Config: its dict comes first
        state = state[0]
    attributes.update(_expect(state, dict))


def _keep_versions(state_dict: OrderedDict, state) -> None:
    """Those of the modules, which torch keeps in an attribute."""
    if '_metadata' in _expect(state, dict):
        vars(state_dict)['_metadata'] = _expect(state['_metadata'], dict)


DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
STORAGES = {
    'torch.DoubleStorage': torch.float64,
    'torch.FloatStorage': torch.float32,
    'torch.HalfStorage': torch.float16,
    'torch.BFloat16Storage': torch.bfloat16,
    'torch.LongStorage': torch.int64,
    'torch.IntStorage': torch.int32,
    'torch.ShortStorage': torch.int16,
    'torch.CharStorage': torch.int8,
    'torch.ByteStorage': torch.uint8,
    'torch.BoolStorage': torch.bool,
    'torch.ComplexDoubleStorage': torch.complex128,
    'torch.ComplexFloatStorage': torch.complex64,
    'torch.storage.UntypedStorage': torch.uint8,
}

# What makes plain data of the arguments that a pickle gives to a name.
REBUILD: dict[str, Callable] = {
    'builtins.bytes': lambda: b'',
    'builtins.bytearray': lambda *content: bytearray(
        _encode(*content) if len(content) == 2 else b''.join(content)
    ),
    'builtins.complex': complex,
    'builtins.frozenset': frozenset,
    'builtins.getattr': _no_statistics,
    'builtins.set': set,
    'builtins.slice': slice,
    '_codecs.encode': _encode,
    'collections.Counter': Counter,
    'collections.OrderedDict': OrderedDict,
    'collections.defaultdict': _defaultdict,
    'mmengine.config.config.ConfigDict': dict,
    'numpy.dtype': _dtype,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch.serialization._get_layout': lambda name: {'torch.strided': torch.strided}[name],
    'torch._tensor._rebuild_from_type_v2': _without_attributes,
    'torch.storage._load_from_bytes': lambda content: _read_stream(BytesIO(content)),
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_v3,
}
for core in 'numpy.core', 'numpy._core':  # the latter since NumPy 2
    REBUILD |= {
        f'{core}.multiarray._reconstruct': lambda *_: np.empty(0),
        f'{core}.multiarray.scalar': _scalar,
        f'{core}.numeric._frombuffer': _array,
    }
for module in 'pathlib', 'pathlib._local':  # the latter since Python 3.13
    for name in 'PosixPath', 'PurePosixPath':
        REBUILD[f'{module}.{name}'] = lambda *parts: str(PurePosixPath(*parts))
    for name in 'WindowsPath', 'PureWindowsPath':
        REBUILD[f'{module}.{name}'] = lambda *parts: str(PureWindowsPath(*parts))

# What stands for an object before its state is read.
OBJECTS = {
    BUFFER: HistoryBuffer,
    'argparse.Namespace': Attributes,
    'mmengine.config.config.Config': Attributes,
}
SET_STATE: dict[type, Callable] = {
    Attributes: _fill_attributes,
    HistoryBuffer: _fill_buffer,
    OrderedDict: _keep_versions,
    np.dtype: _check_dtype,
    np.ndarray: _fill_array,
}
# What a pickle may name without calling it.
BY_NAME_ONLY = {
    'builtins.dict',
    'builtins.list',
    'numpy.ndarray',
    'torch.Tensor',
    'torch.nn.parameter.Parameter',
    *(f'{BUFFER}.{statistic}' for statistic in STATISTICS),
}
