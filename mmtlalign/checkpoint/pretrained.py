"""Backbones that start from a file, by an ``init_cfg`` that says so."""

import os.path as osp
import re
from collections import Counter
from copy import deepcopy

from mmengine.config import Config
from torch import Tensor, nn

from mmtlalign.errors import UserError
from mmtlalign.resources import list_configs

from .loading import check_finite, get_weights, load_checkpoint_safely, load_strictly

FORM = "dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')"

# Whole keys, as regular expressions.
NORMS = r'norm\d+\.(weight|bias)'  # Swin: one for each output
BUFFERS = r'.*(relative_position_index|relative_coords_table|attn_mask)'
# What a file need not hold: norms of new outputs (ln2: of the mean over
# patches), and what the constructor computes.
MAY_LACK = (NORMS, r'ln2\.(weight|bias)', BUFFERS)
# What a backbone need not have: norms of outputs that are not used, the token
# of a distilled DeiT, and what no constructor keeps any more.
MAY_EXCEED = (NORMS, r'ln[12]\.(weight|bias)', 'dist_token', BUFFERS)


def check_pretrained_file(cfg: Config) -> None:
    """Look for the backbone's file before anything is built.

    Files of other modules, and what is in them, are checked by :func:`expected_weights`.

    Raises:
        UserError: If it does not exist, naming what makes it.
    """
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg')
    if not isinstance(init_cfg, dict) or not _says_pretrained(init_cfg):
        return
    path = init_cfg.get('checkpoint')
    if not isinstance(path, str) or '://' in path or osp.exists(osp.expanduser(path)):
        return
    name = osp.basename(osp.dirname(path))
    raise UserError(
        f"checkpoint '{path}' does not exist: "
        + (f'train {name} first, or ' if name in list_configs() else '')
        + 'give another with --cfg-options model.backbone.init_cfg.checkpoint=PATH'
    )


def find_pretrained(model: nn.Module) -> dict[str, dict]:
    """Collect the modules that are to start from a file.

    Args:
        model (nn.Module): Not wrapped.

    Returns:
        dict[str, dict]: ``init_cfg`` by name of the module, ``''`` for the model itself.

    Raises:
        UserError: If one is written in another form than the only one the
            host honours in every backbone.
    """
    found: dict[str, dict] = {}
    for name, module in model.named_modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if _says_pretrained(init_cfg):
            found[name] = _check_form(init_cfg, name)
    return found


def _says_pretrained(init_cfg) -> bool:
    """Whether a dict, or one in a list, is about a file, however written."""
    if isinstance(init_cfg, (list, tuple)):
        return any(map(_says_pretrained, init_cfg))
    if not isinstance(init_cfg, dict):
        return False
    kind = init_cfg.get('type')
    name = getattr(kind, '__name__', str(kind)).split('.')[-1]
    return name in ('Pretrained', 'PretrainedInit')


def _check_form(init_cfg, name: str) -> dict:
    """Refuse lists, classes, and files without a name or a prefix."""
    where = '.'.join(filter(None, ['model', name, 'init_cfg']))
    if isinstance(init_cfg, dict):
        given = {k: v for k, v in init_cfg.items() if k != '_scope_'}
        if (
            given.get('type') == 'Pretrained'
            and set(given) == {'type', 'checkpoint', 'prefix'}
            and all(isinstance(v, str) and v for v in given.values())
        ):
            return init_cfg
    raise UserError(
        f'{where}={init_cfg} is refused: weights are named in one form only, {FORM} (the host '
        'takes others too and then redraws position embeddings, or loads nothing, without an '
        'error); a whole model starts from load_from=FILE'
    )


def forget_pretrained(model: nn.Module) -> list[str]:
    """Drop every ``init_cfg`` that names a file, which need not exist then; names of the modules.

    For a model, not wrapped, whose weights all come from a checkpoint of its own.
    """
    names = []
    for name, module in model.named_modules():
        if _says_pretrained(getattr(module, 'init_cfg', None)):
            module.init_cfg = None
            names.append(name)
    return names


def expected_weights(
    module: nn.Module, name: str, init_cfg: dict, trust: bool = False
) -> tuple[dict[str, Tensor], str]:
    """What a module must hold once its ``init_cfg`` has been followed.

    Args:
        module (nn.Module): Left as it is.
        name (str): Only for messages.
        init_cfg (dict): In the form that :func:`find_pretrained` accepts.
        trust (bool): See :func:`load_checkpoint_safely`. Defaults to False.

    Returns:
        tuple[dict[str, Tensor], str]: Every tensor by key, on the CPU, but for those that the file
        does not hold; and one line on what comes from the file and what does not.

    Raises:
        UserError: If the file does not exist, is damaged, would run code, has
            no such prefix, or does not fit.
    """
    path, prefix = init_cfg['checkpoint'], init_cfg['prefix']
    weights = get_weights(load_checkpoint_safely(path, trust), path)
    prefix = prefix.rstrip('.') + '.'
    state = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    if not state:
        tops = sorted({key.split('.')[0] + '.' for key in weights})
        raise UserError(
            f"checkpoint '{path}' has no keys that start with prefix '{prefix}' "
            f'(model.{name}.init_cfg.prefix); its keys start with {", ".join(tops[:5])}'
        )
    check_finite(state, path)
    copy = deepcopy(module).cpu()
    missing, unexpected = load_strictly(
        copy, state, path, MAY_LACK, MAY_EXCEED, whose=f'model.{name} ({type(module).__name__})'
    )
    _check_norms(missing, state, path, name)
    expected = {key: value for key, value in copy.state_dict().items() if key not in missing}
    unused = Counter(key.split('.')[0] for key in weights if not key.startswith(prefix))
    unused.update(f'{prefix}{key}' for key in unexpected)
    return expected, _describe(name, path, len(state) - len(unexpected), missing, unused)


def _check_norms(missing: list[str], state: dict[str, Tensor], path: str, name: str) -> None:
    """Refuse a Swin without any norm: its classifier had that of its end."""
    lacks = [key for key in missing if re.fullmatch(NORMS, key)]
    if lacks and not any(re.match(r'norm\d*\.', key) for key in state):
        raise UserError(
            f"checkpoint '{path}' does not fit model.{name}: it lacks all "
            f'norms of outputs (first: {lacks[0]}), so it is incomplete'
        )


def _describe(name: str, path: str, loaded: int, missing: list[str], unused: Counter) -> str:
    """One line on what comes from the file and what does not."""
    line = f"Weights of {name}: {loaded} tensors from '{path}'"
    if missing:
        line += f'; not in the file, so initialized: {", ".join(missing)}'
    if unused:
        line += '; in the file, but not used: ' + ', '.join(
            f'{key} ({count})' for key, count in sorted(unused.items())
        )
    return line
