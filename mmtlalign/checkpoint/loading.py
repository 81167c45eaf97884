"""Checkpoints: read without running their code, load without leftovers."""

import hashlib
import json
import os
import os.path as osp
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.fileio import PickleHandler, get_local_path, register_handler
from mmengine.runner import CheckpointLoader
from safetensors import safe_open
from torch import Tensor, nn

from mmtlalign.errors import DamagedFile, UserError

from .saved_data import NotData, Unpickler, read_saved_data

TABLE = 'relative_position_bias_table'
# As ``mmtlalign publish`` names files.
NAMED_BY_HASH = re.compile(r'.*_\d{8}-[0-9a-f]{8}\.(pth|safetensors)')
NOT_DENSE = (
    "checkpoint '{}' holds {} tensors; only dense ones can be "
    'loaded: save it with those (to_dense(), dequantize(), cpu())'
)
# How the hosts' own loaders are told apart, by the beginning of a path.
HOST_LOADERS = dict(CheckpointLoader._schemes)
# Those that read a file again with its code if they cannot without. The
# others know only addresses that the hosts publish.
UNSAFE = ('', 'http://', 'https://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')
# By the function of torch that would make them.
NO_PLAIN_TENSORS = {
    '_rebuild_meta_tensor_no_storage': 'meta-device',
    '_rebuild_nested_tensor': 'nested',
    '_rebuild_qtensor': 'quantized',
    '_rebuild_sparse_tensor': 'sparse',
}


def _read_safetensors(path: str) -> dict:
    """What tools/publish_model.py writes, or another file of this format."""
    with get_local_path(osp.expanduser(path)) as local, safe_open(local, 'pt') as file:
        return dict(
            state_dict={key: file.get_tensor(key) for key in file.keys()},
            meta=json.loads((file.metadata() or {}).get('meta', '{}')),
        )


# What the hosts are to get for a path, and paths that a person trusts.
_handed: dict[str, dict] = {}
_trusted: set[str] = set()


def hand_to_host(path: str, checkpoint: dict) -> None:
    """Let the host's next read of a path give what has been checked.

    Args:
        path (str): As the host will ask for it.
        checkpoint (dict): Of :func:`load_checkpoint_safely`.
    """
    _handed[path] = checkpoint


@CheckpointLoader.register_scheme(prefixes=UNSAFE, force=True)
def load_from_checked(filename: str, map_location=None) -> dict:
    """Read for the hosts: what has been handed over for this path, else what it holds.

    Their own loaders first forbid code and, if the file then cannot be read, permit it; for a web
    address they permit it at once. Without trust, the text of a config that mmengine would run is
    left out. ``map_location`` is not heeded: everything goes from the CPU to where it is loaded.
    """
    trust = filename in _trusted
    checkpoint = _handed.pop(filename, None)
    if checkpoint is None:
        checkpoint = load_checkpoint_safely(filename, trust)
    if not trust:
        checkpoint.get('meta', {}).pop('config', None)
    return checkpoint


@register_handler(['pickle', 'pkl'])
class PlainPickle(PickleHandler):
    """For annotations and results, in place of mmengine's; data alone."""

    def load_from_fileobj(self, file, **kwargs):
        return Unpickler(file).load()


def load_checkpoint_safely(path: str, trust: bool = False) -> dict:
    """Read a checkpoint onto the CPU; its code, if it holds any, is not run.

    A checkpoint is a pickle, and a pickle can name any function to be called while it is read. This
    one is read by :func:`read_saved_data`, which calls none.

    Args:
        path (str): File or http(s) address.
        trust (bool): Read with torch, which may run code; so may the hosts
            from then on, if they read this path. Defaults to False.

    Returns:
        dict: What the file holds.

    Raises:
        UserError: If there is no path or file, or it is damaged, is not what
            the hash in a name such as ``..._20260101-0123abcd.pth`` says,
            would run code, or it or one of its usual parts is no dict.
    """
    if not path:
        raise UserError('the name of the checkpoint is empty; give its path')
    if trust:
        _trusted.add(path)
    try:
        checkpoint = _read(path, trust)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"checkpoint '{path}' does not exist") from None
    except Exception as error:  # reading garbage can raise anything
        kind = UserError if isinstance(error, NotData) else DamagedFile
        raise kind(_why_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise DamagedFile(
            f"checkpoint '{path}' holds a {type(checkpoint).__name__}, not a dict of weights"
        )
    for key in ('state_dict', 'ema_state_dict', 'meta'):
        if not isinstance(checkpoint.get(key, {}), dict):
            raise DamagedFile(
                f"checkpoint '{path}' holds a {type(checkpoint[key]).__name__} as its {key}, not a "
                'dict; get it again or save it as mmengine does'
            )
    return checkpoint


def _read(path: str, trust: bool):
    """What the file holds; any exception."""
    if '://' not in path and NAMED_BY_HASH.fullmatch(osp.basename(path)):
        check_hash(Path(path).expanduser())
    if path.endswith('.safetensors'):
        return _read_safetensors(path)  # never holds code
    if re.match('https?://', path):
        path = _download(path)
    elif '://' in path and trust:
        load = next(load for prefix, load in HOST_LOADERS.items() if re.match(prefix, path))
        return load(path, map_location='cpu')
    elif '://' in path:
        raise UserError(
            f"checkpoint '{path}' is neither a file nor a web address; "
            'download it and give its path, or --trust its source'
        )
    path = osp.expanduser(path)
    if trust:
        check_archive(path)
        return torch.load(path, map_location='cpu', weights_only=False)
    return read_saved_data(path)


def check_archive(path: str) -> None:
    """Verify checksums, as torch does not: it reads over a flipped bit."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if name := archive.testzip():
                raise zipfile.BadZipFile(f'Bad CRC-32 for file {name!r}')


def _download(url: str) -> str:
    """The file in torch's cache, where ``torch.hub`` puts it too."""
    path = osp.join(torch.hub.get_dir(), 'checkpoints', osp.basename(urlparse(url).path))
    if not osp.exists(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        torch.hub.download_url_to_file(url, path)
    return path


def _why_unreadable(path: str, error: Exception) -> str:
    """One line, whatever the file has made of the error's."""
    if isinstance(error, NotData):
        name = error.name.rpartition('.')[2]
        if name in NO_PLAIN_TENSORS:
            return NOT_DENSE.format(path, NO_PLAIN_TENSORS[name])
        return (
            f"checkpoint '{path}' holds more than weights ({error.name!r:.100}), and reading that "
            'can run any code; ask for a file of weights only, or pass --trust if you trust '
            'whoever made it'
        )
    reason = (str(error).strip() or 'no more is known').splitlines()[0]
    return (
        f"checkpoint '{path}' cannot be read ({type(error).__name__}: "
        f'{reason}); it is damaged or no checkpoint'
    )


def hash8(path: Path) -> str:
    """The first eight hexadecimal digits of a file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def check_hash(path: Path) -> None:
    """Raise a UserError unless a file has the hash in its name, ``...-{hash8}.suffix``."""
    stated = path.stem[-8:]
    found = hash8(path)
    if found != stated:
        raise DamagedFile(
            f"'{path}' is damaged: its name says that its sha256 begins with {stated}, and it "
            f'begins with {found}; get it again, or rename it if it is yours'
        )


def get_weights(checkpoint: dict, path: str) -> dict[str, Tensor]:
    """The model's weights by key, without a wrapper's prefix; the path is for messages.

    Raises:
        UserError: If there are none, or not where OpenMMLab keeps them, or they are not dense.
    """
    state = checkpoint.get('state_dict', checkpoint)
    other = [
        key
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if other or not state:
        kind = f"'{other[0]}' is no tensor" if other else 'there are none'
        raise UserError(
            f"checkpoint '{path}' does not hold its weights as OpenMMLab does ({kind}); convert a "
            'release of DeiT or Swin with `mmtlalign convert`'
        )
    for value in state.values():
        check_dense(value, path)
    return {re.sub(r'^module\.', '', key): value for key, value in state.items()}


def check_dense(value: Tensor, path: str) -> None:
    """Raise a UserError for a tensor that is no memory full of numbers."""
    for kind, is_one in (
        ('meta-device', value.is_meta),
        ('quantized', value.is_quantized),
        ('nested', value.is_nested),
        ('sparse', value.layout != torch.strided),
    ):
        if is_one:
            raise UserError(NOT_DENSE.format(path, kind))


def check_finite(state: dict[str, Tensor], path: str) -> None:
    """Raise a UserError for weights of a training that has diverged."""
    for key, value in state.items():
        if not value.isfinite().all():
            raise DamagedFile(
                f"checkpoint '{path}' is of no use: {key} holds values that are not finite; its "
                'training has diverged, take an earlier one'
            )


def load_strictly(
    module: nn.Module,
    state: dict[str, Tensor],
    path: str,
    may_lack: Iterable[str] = (),
    may_exceed: Iterable[str] = (),
    whose: str | None = None,
) -> tuple[list[str], list[str]]:
    """Load weights; what is missing or left over must be allowed.

    The module's own resizing and renaming at load time is respected, but for
    relative-position tables: the host's resize fails with current SciPy.

    Args:
        module (nn.Module): Not wrapped. Its weights are overwritten.
        state (dict[str, Tensor]): Weights by key; not modified.
        path (str): Only for messages.
        may_lack (Iterable[str]): Regular expressions of whole keys that the
            file need not hold. Defaults to none.
        may_exceed (Iterable[str]): Likewise of keys that the module need not
            have. Defaults to none.
        whose (str, optional): What the messages call the module. Defaults to
            "the config's" and its class.

    Returns:
        tuple[list[str], list[str]]: Allowed keys that the file lacks, and
        allowed keys of the file that the module lacks.

    Raises:
        UserError: Naming the first keys, shapes or kinds of numbers that do not fit.
    """

    def does_not_fit(why: str) -> UserError:
        name = whose or f"the config's {type(module).__name__}"
        return UserError(
            f"checkpoint '{path}' does not fit {name}: {why}; give the checkpoint that was trained "
            'with this config, or the config it was trained with'
        )

    check_window_sizes(module, state, path)
    for key, own in module.state_dict().items():
        file = state.get(key, own)
        kinds = {(value.is_floating_point(), value.is_complex()) for value in (own, file)}
        if len(kinds) > 1:  # torch would round, or drop a part
            raise does_not_fit(f'{key} holds {file.dtype} in the file and {own.dtype} in the model')
    try:
        found = module.load_state_dict(state, strict=False)
    except (RuntimeError, AssertionError) as error:  # shapes
        raise does_not_fit(_first_reason(error, module, state)) from None
    wrong = []
    for kind, keys, allowed in (
        ('keys missing in the file', found.missing_keys, may_lack),
        ('keys unknown to the model', found.unexpected_keys, may_exceed),
    ):
        pattern = '|'.join(allowed)
        keys = [key for key in keys if not re.fullmatch(pattern, key)]
        if keys:
            wrong.append(f'{len(keys)} {kind} (first: {keys[0]})')
    if wrong:
        raise does_not_fit(', '.join(wrong))
    return found.missing_keys, found.unexpected_keys


def _first_reason(error: Exception, module: nn.Module, state: dict[str, Tensor]) -> str:
    """What torch or the module's own resizing says, in one line."""
    file, own = (
        any(key.endswith('dist_token') for key in keys) for keys in (state, module.state_dict())
    )
    if file and not own:  # positions are then those of one more token
        return (
            'it has a distillation token; remove that with `mmtlalign '
            'convert FILE OUT --drop-distillation`'
        )
    lines = str(error).splitlines() or ['shapes differ']
    return lines[min(1, len(lines) - 1)].strip().rstrip('.')


def check_window_sizes(module: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Raise a UserError if a relative-position table has another window."""
    for key, own in module.state_dict().items():
        if key.endswith(TABLE) and key in state:
            # (2 w - 1)^2 rows for a window of w x w
            sizes = [(round(len(table) ** 0.5) + 1) // 2 for table in (state[key], own)]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f"checkpoint '{path}' has windows of {sizes[0]} and the config's "
                    f'{type(module).__name__} of {sizes[1]} (first: {key}); resize its tables with '
                    f'`mmtlalign convert FILE OUT --window-size {sizes[1]}`'
                )


def check_weights(
    model: nn.Module, checkpoint: dict, path: str, allowed: Iterable[str] = ()
) -> None:
    """Load what has been read, strictly; the host only logs misfits.

    Args:
        model (nn.Module): Not wrapped. Its weights are overwritten.
        checkpoint (dict): Of :func:`load_checkpoint_safely`; not modified.
        path (str): Only for messages.
        allowed (Iterable[str]): Prefixes of keys, such as ``'head.'``, that
            may be missing, left over or of another shape. Defaults to none.

    Raises:
        UserError: Naming the first keys or shapes that do not fit, or weights that are not finite.
    """
    state = get_weights(checkpoint, path)
    check_finite(state, path)
    prefixes = tuple(allowed)
    own = model.state_dict()
    state = {
        key: value
        for key, value in state.items()
        if not (key.startswith(prefixes) and key in own and own[key].shape != value.shape)
    }
    patterns = [re.escape(prefix) + '.*' for prefix in prefixes]
    load_strictly(model, state, path, patterns, patterns)


def check_checkpoint(
    model: nn.Module, path: str, trust: bool = False, allowed: Iterable[str] = ()
) -> dict:
    """Read a checkpoint safely and load it strictly.

    Args:
        model (nn.Module): Not wrapped. Its weights are overwritten.
        path (str): File or http(s) address.
        trust (bool): See :func:`load_checkpoint_safely`. Defaults to False.
        allowed (Iterable[str]): See :func:`check_weights`. Defaults to none.

    Returns:
        dict: What the file holds.

    Raises:
        UserError: If the file cannot be read or does not fit.
    """
    checkpoint = load_checkpoint_safely(path, trust)
    check_weights(model, checkpoint, path, allowed)
    return checkpoint
