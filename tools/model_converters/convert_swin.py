"""Convert a Swin between three layouts, or to another window size.

The layouts are that of the paper's release, that of timm 0.9 and newer, and
that of mmpretrain. Examples:
    python tools/model_converters/convert_swin.py swin_tiny.pth out.pth
    python tools/model_converters/convert_swin.py out.pth back.pth --to paper
    python tools/model_converters/convert_swin.py out.pth w12.pth \
        --window-size 12
"""
import re

from conversion import (
    State,
    count,
    finish,
    make_parser,
    read,
    rename,
    turned,
    with_head,
)
from mmpretrain.models import LinearClsHead, SwinTransformer
from torch import Tensor, nn

from mmtlalign.utils import UserError, one_line_errors

# Computed by every constructor, and not kept by timm.
BUFFERS = ('relative_position_index', 'attn_mask')
BIAS_TABLE = 'relative_position_bias_table'
HEAD = 'head.fc.weight'


def table(state: State) -> list[tuple[str, str]]:
    """Keys of the paper's release, and those of mmpretrain."""
    last = max(count(state, r'layers\.(\d+)\.'),
               count(state, r'backbone\.stages\.(\d+)\.')) - 1
    block, stage = 'layers.{}.blocks.{}.', 'backbone.stages.{}.blocks.{}.'
    return [
        ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
        ('patch_embed.norm.', 'backbone.patch_embed.norm.'),
        ('absolute_pos_embed', 'backbone.absolute_pos_embed'),
        (block + 'norm1.', stage + 'norm1.'),
        (block + 'attn.', stage + 'attn.w_msa.'),
        (block + 'norm2.', stage + 'norm2.'),
        (block + 'mlp.fc1.', stage + 'ffn.layers.0.0.'),
        (block + 'mlp.fc2.', stage + 'ffn.layers.1.'),
        ('layers.{}.downsample.', 'backbone.stages.{}.downsample.'),
        ('norm.', f'backbone.norm{last}.'),
        ('head.', 'head.fc.'),
    ]


def recognise(state: State, path: str) -> str:
    """The layout of a file: timm merges before a stage, the others after."""
    for layout, start in (('mmpretrain', 'backbone.stages.0.'),
                          ('paper', 'layers.0.downsample.'),
                          ('timm', 'layers.1.downsample.')):
        if any(key.startswith(start) for key in state):
            return layout
    raise UserError(f"'{path}' is no Swin in the layout of its paper, timm or "
                    f"mmpretrain: its first key is '{next(iter(state))}'")


def move_merging(state: State, by: int) -> State:
    """Count the stages of patch merging from before or after it."""
    return {re.sub(r'^layers\.(\d+)\.downsample',
                   lambda m: f'layers.{int(m[1]) + by}.downsample', key): value
            for key, value in state.items()}


def reorder_merging(state: State, unfold: bool) -> State:
    """Reorder the 4 C inputs of patch merging.

    The paper's model and timm lay the four patches side by side, the two of
    the left column first; mmpretrain's unfold keeps the patches of a channel
    together, row by row. No shape tells the two apart.

    Args:
        state (dict[str, Tensor]): In the paper's keys or mmpretrain's.
        unfold (bool): Whether the result is in the order of unfold.

    Returns:
        dict[str, Tensor]: ``downsample.reduction.weight`` (2 C, 4 C) and
        ``downsample.norm`` (4 C) reordered, the others as they were.
    """
    def reorder(x: Tensor) -> Tensor:
        if unfold:  # (column, row, channel) -> (channel, row, column)
            x = x.unflatten(-1, (2, 2, -1)).transpose(-1, -3)
        else:
            x = x.unflatten(-1, (-1, 2, 2)).transpose(-1, -3)
        return x.flatten(-3).contiguous()

    return {key: reorder(value) if '.downsample.' in key else value
            for key, value in state.items()}


def resize_table(bias_table: Tensor, window_size: int) -> Tensor:
    """Interpolate relative-position biases, as the paper's code does.

    Args:
        bias_table (Tensor): ((2 w - 1)^2, heads), for a window of w x w.
        window_size (int): W, that of the result.

    Returns:
        Tensor: ((2 W - 1)^2, heads); the bias of distance zero is kept in
        the middle.
    """
    old, new = round(len(bias_table)**.5), 2 * window_size - 1
    if old == new:
        return bias_table
    grid = bias_table.T.unflatten(1, (old, old))[None]
    grid = nn.functional.interpolate(grid.float(), size=(new, new),
                                     mode='bicubic', align_corners=False)
    return grid[0].flatten(1).T.to(bias_table.dtype).contiguous()


def to_mmpretrain(state: State, layout: str, path: str) -> State:
    """From any layout, without the buffers."""
    state = {key: value for key, value in state.items()
             if not key.endswith(BUFFERS)}
    if layout == 'mmpretrain':
        return state
    if layout == 'timm':
        state = {key.replace('head.fc.', 'head.'): value
                 for key, value in move_merging(state, -1).items()}
    return reorder_merging(rename(state, table(state), path), unfold=True)


def from_mmpretrain(state: State, layout: str, path: str) -> State:
    """To the layout of timm or the paper."""
    state = reorder_merging(state, unfold=False)
    state = rename(state, turned(table(state)), path)
    if layout == 'timm':
        state = {re.sub(r'^head\.', 'head.fc.', key): value
                 for key, value in move_merging(state, 1).items()}
    return state


def build(state: State) -> nn.Module:
    """mmpretrain's model for a state in its layout, as its keys tell."""
    stages = [f'backbone.stages.{i}.' for i in range(
        count(state, r'backbone\.stages\.(\d+)\.'))]
    tables = [state[f'{stage}blocks.0.attn.w_msa.{BIAS_TABLE}']
              for stage in stages]
    width, channels, patch_size = state[
        'backbone.patch_embed.projection.weight'].shape[:3]
    positions = state.get('backbone.absolute_pos_embed')
    grid = 14 if positions is None else round(positions.shape[1]**.5)
    backbone = SwinTransformer(
        arch=dict(
            embed_dims=width,
            depths=[count(state, re.escape(stage) + r'blocks\.(\d+)\.')
                    for stage in stages],
            num_heads=[biases.shape[1] for biases in tables]),
        img_size=grid * patch_size, patch_size=patch_size,
        in_channels=channels, window_size=(round(len(tables[0])**.5) + 1) // 2,
        use_abs_pos_embed=positions is not None,
        out_indices=(len(stages) - 1, ))
    head = None if HEAD not in state else LinearClsHead(
        num_classes=len(state[HEAD]), in_channels=state[HEAD].shape[1])
    return with_head(backbone, head)


def add_indices(state: State, model: nn.Module) -> State:
    """Add the index buffers that mmpretrain keeps in its checkpoints."""
    return {**state, **{key: value for key, value in
                        model.state_dict().items() if key.endswith(BUFFERS)}}


def main() -> None:
    parser = make_parser(__doc__, ['mmpretrain', 'timm', 'paper'])
    parser.add_argument(
        '--window-size', type=int, metavar='W',
        help='resize the tables of relative positions for windows of W x W')
    args = parser.parse_args()
    if args.window_size is not None and args.window_size < 1:
        raise UserError(f'--window-size {args.window_size} must be at least 1')
    state, meta = read(args)
    state = to_mmpretrain(state, recognise(state, args.file), args.file)
    if args.window_size:
        state = {key: resize_table(value, args.window_size)
                 if key.endswith(BIAS_TABLE) else value
                 for key, value in state.items()}
    model = build(state)
    if args.to == 'mmpretrain':
        finish(args.out, args.to, add_indices(state, model), meta, model)
        return

    def back(out: State) -> State:
        return add_indices(to_mmpretrain(out, args.to, args.out), model)

    finish(args.out, args.to, from_mmpretrain(state, args.to, args.file),
           meta, model, back)


if __name__ == '__main__':
    with one_line_errors('convert_swin.py'):
        main()
