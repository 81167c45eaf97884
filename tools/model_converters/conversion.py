"""What the converters share: reading, renaming, proof, writing."""
import argparse
import os.path as osp
import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mmtlalign.utils import (
    UserError,
    add_trust_argument,
    check_file,
    get_weights,
    load_checkpoint_safely,
    load_strictly,
)

State = dict[str, Tensor]


def make_parser(description: str, layouts: Iterable[str]):
    """Arguments that all converters take."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', help='its layout is recognised by its keys')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--to', choices=list(layouts), default='mmpretrain',
                        help='layout to write (default: %(default)s)')
    add_trust_argument(parser)
    return parser


def read(args: argparse.Namespace) -> tuple[State, dict]:
    """Weights of a release or of a checkpoint, and a checkpoint's meta.

    Raises:
        UserError: If there are none, or the output has no place.
    """
    check_file(args.file, 'checkpoint')
    check_out(args.out, args.file)
    checkpoint = load_checkpoint_safely(args.file, args.trust)
    if isinstance(checkpoint.get('model'), dict):  # the papers' releases
        checkpoint = dict(state_dict=checkpoint['model'])
    return get_weights(checkpoint, args.file), checkpoint.get('meta', {})


def check_out(out: str, file: str) -> None:
    """Raise a UserError if the output cannot be written, or should not."""
    folder = osp.dirname(out) or '.'
    if not osp.isdir(folder):
        raise UserError(f"folder '{folder}' of the output does not exist; "
                        'make it or write elsewhere')
    if osp.isdir(out):
        raise UserError(f"'{out}' is a folder; name a file")
    if osp.exists(file) and osp.exists(out) and osp.samefile(file, out):
        raise UserError(f"'{out}' is the input, which would be lost; write "
                        'another file')
    if out.endswith('.safetensors'):
        raise UserError(f"'{out}' would be a .pth file for all its name; call "
                        'it *.pth (tools/publish_model.py makes the other)')


def rename(state: State, table: list[tuple[str, str]], path: str) -> State:
    """Replace the beginnings of all keys.

    Args:
        state (dict[str, Tensor]): By key.
        table (list[tuple[str, str]]): Old and new beginning of a key; ``{}``
            stands for a number. The first that fits is taken.
        path (str): Only for messages.

    Returns:
        dict[str, Tensor]: By new key.

    Raises:
        UserError: Naming a key that no line of the table fits.
    """
    patterns = [(re.compile(re.escape(old).replace(r'\{\}', r'(\d+)')), new)
                for old, new in table]
    renamed = {}
    for key, value in state.items():
        for pattern, new in patterns:
            if match := pattern.match(key):
                renamed[new.format(*match.groups())
                        + key[match.end():]] = value
                break
        else:
            raise UserError(f"'{path}' holds '{key}', which no model of this "
                            'family has')
    return renamed


def turned(table: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The table of the other direction."""
    return [(new, old) for old, new in table]


def count(state: State, pattern: str) -> int:
    """One more than the largest number that the pattern's group matches."""
    found = [int(m[1]) for m in map(re.compile(pattern).match, state) if m]
    return max(found, default=-1) + 1


def finish(out: str, layout: str, state: State, meta: dict, model: nn.Module,
           back: Callable[[State], State] | None = None) -> None:
    """Load strictly into the stock model, write, and say so.

    Args:
        out (str): File to write.
        layout (str): Name of the state's layout.
        state (dict[str, Tensor]): To be written.
        meta (dict): Written beside it in mmpretrain's layout.
        model (nn.Module): Of mmpretrain.
        back (callable, optional): From another layout to mmpretrain's. What
            it returns is loaded. Defaults to None.

    Raises:
        UserError: If not everything fits.
    """
    load_strictly(model, back(state) if back else state, out,
                  whose=f"mmpretrain's {type(model.backbone).__name__}")
    kinds = dict(mmpretrain=dict(state_dict=state, meta=meta),
                 paper=dict(model=state), timm=state)
    torch.save(kinds[layout], out)
    proof = 'converted back, ' if back else ''
    print(f"{out}: {len(state)} tensors in the layout of '{layout}'; {proof}"
          f'they load strictly into {type(model.backbone).__name__}')


def with_head(backbone: nn.Module, head: nn.Module | None) -> nn.Module:
    """A classifier's parts under their usual names."""
    parts = dict(backbone=backbone)
    if head is not None:
        parts['head'] = head
    model = nn.Module()
    for name, part in parts.items():
        model.add_module(name, part)
    return model
