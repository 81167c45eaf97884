"""Convert a checkpoint between layouts: papers', timm's and mmpretrain's.

The family and the layout of the file are recognised by its keys. What is
written must load strictly into the stock model.

    mmtlalign convert deit_small.pth out.pth
    mmtlalign convert work_dirs/NAME/epoch_300.pth timm.pth --to timm
    mmtlalign convert swin_tiny.pth w12.pth --window-size 12
    mmtlalign convert hf:FOLDER out.pth
"""

import argparse
import json
import os.path as osp
from functools import partial
from pathlib import Path

from torch import nn

from mmtlalign.apis.hf_folder import FIRST_LAYER
from mmtlalign.checkpoint import check_finite, get_weights, load_checkpoint_safely, load_strictly
from mmtlalign.checkpoint.conversion import DeiT, Family, State, Swin, recognise
from mmtlalign.checkpoint.conversion.deit import drop_distillation
from mmtlalign.checkpoint.conversion.swin import resize_tables
from mmtlalign.checkpoint.pretrained import BUFFERS
from mmtlalign.commands.command_line import (
    add_trust_argument,
    check_file,
    make_folder_of,
    new_parser,
    number,
)
from mmtlalign.errors import UserError, in_one_line
from mmtlalign.output_files import save_whole

# Where the papers' releases keep weights: most, BEiT v2, DINO.
PARTS = ('model', 'module', 'teacher')


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument(
        'file', help='its layout is recognised by its keys; hf:FOLDER is a model of the hub'
    )
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--to',
        choices=['mmpretrain', 'timm', 'paper'],
        default='mmpretrain',
        help='layout to write (default: %(default)s)',
    )
    parser.add_argument(
        '--drop-distillation',
        action='store_true',
        help="leave a DeiT's distillation token and its head out",
    )
    parser.add_argument(
        '--window-size',
        type=number(int, 1),
        metavar='W',
        help="resize a Swin's tables of relative positions for windows of W x W",
    )
    add_trust_argument(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    state, meta = read(args.file, args.out, args.trust)
    family, layout = recognise(state, args.file)
    check_options(args, family)
    state = leave_out(family.pretraining, state)
    state = family.to_mmpretrain(state, layout, args.file)
    if args.drop_distillation:
        state = drop_distillation(state)
    if args.window_size:
        state = resize_tables(state, args.window_size)
    model = family.build(state, args.file)
    finish(args.file, args.out, args.to, state, meta, model, family)


def read(file: str, out: str, trust: bool) -> tuple[State, dict]:
    """Weights of a release or of a checkpoint, and a checkpoint's meta.

    Raises:
        UserError: If there are none, or the output has no place.
    """
    record: dict = {}
    if file.startswith('hf:'):
        file, record = find_in_folder(file.removeprefix('hf:'))
    check_file(file, 'checkpoint')
    check_out(out, file)
    checkpoint = load_checkpoint_safely(file, trust)
    for name in PARTS:
        if isinstance(checkpoint.get(name), dict):
            checkpoint = dict(state_dict=checkpoint[name])
    state = get_weights(checkpoint, file)
    check_finite(state, file)
    if any(key.startswith('backbone.blocks.') for key in state):  # of DINO's training
        state = {key.removeprefix('backbone.'): value for key, value in state.items()}
    if record.pop('channels_reversed', False) and FIRST_LAYER in state:
        state[FIRST_LAYER] = state[FIRST_LAYER].flip(1)
    return state, record or checkpoint.get('meta', {})


def find_in_folder(folder: str) -> tuple[str, dict]:
    """The weights in a folder of the hub, and what mmtlalign recorded there.

    Raises:
        UserError: If it is no such folder.
    """
    config = Path(folder, 'config.json')
    if not config.is_file():
        raise UserError(
            f"'{folder}' has no config.json; get a model of the hub by "
            '`hf download OWNER/NAME --local-dir FOLDER`, and give hf:FOLDER'
        )
    try:
        record = dict(json.loads(config.read_text()).get('mmtlalign') or {})
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"'{config}' is no JSON of names and values ({error})") from None
    return str(Path(folder, 'model.safetensors')), record


def leave_out(beginnings: tuple[str, ...], state: State) -> State:
    """A state without the keys that only a pretraining uses; says how many."""
    kept = {key: value for key, value in state.items() if not key.startswith(beginnings)}
    if len(kept) < len(state):
        first = next(key for key in state if key not in kept)
        print(
            f'left out, since only pretraining uses them: {len(state) - len(kept)} tensors '
            f'(first: {in_one_line(first)})'
        )
    return kept


def check_out(out: str, file: str) -> None:
    """Raise a UserError if the output cannot be written, or should not."""
    if osp.exists(file) and osp.exists(out) and osp.samefile(file, out):
        raise UserError(f"'{out}' is the input, which would be lost; write another file")
    if out.endswith('.safetensors'):
        raise UserError(
            f"'{out}' would be a .pth file for all its name; call "
            'it *.pth (mmtlalign publish makes the other)'
        )
    make_folder_of(out, 'out')


def check_options(args: argparse.Namespace, family: Family) -> None:
    """Raise a UserError for what another family is asked for."""
    for option, owner in (('drop_distillation', DeiT), ('window_size', Swin)):
        if getattr(args, option) and type(family) is not owner:
            raise UserError(
                f'--{option.replace("_", "-")} is for {owner.name}, and '
                f"'{args.file}' is a {family.name}: leave it out"
            )
    if args.to not in family.marks:
        raise UserError(
            f'--to {args.to}: a {family.name} has the layouts {", ".join(sorted(family.marks))}'
        )


def finish(
    file: str, out: str, layout: str, state: State, meta: dict, model: nn.Module, family: Family
) -> None:
    """Load strictly into the stock model, write in a layout, and say so.

    Raises:
        UserError: If not everything fits.
    """
    name = type(model.backbone).__name__
    load = partial(
        load_strictly,
        path=file,
        whose=f"{type(model.backbone).__module__.split('.')[0]}'s {name}",
        may_lack=[BUFFERS],
    )
    if layout == 'mmpretrain':
        state = family.complete(state, model)
        load(model, state)
        written: dict = dict(state_dict=state, meta=meta)
        proof = ''
    else:
        state = family.from_mmpretrain(state, layout, out)
        load(model, family.complete(family.to_mmpretrain(state, layout, out), model))
        written = dict(model=state) if layout == 'paper' else state
        proof = 'converted back, '
    save_whole(written, out)
    print(
        f"{out}: {len(state)} tensors in the layout of '{layout}'; {proof}"
        f'they load strictly into {name}'
    )
