"""Swin: the paper's release, timm 0.9 and newer, and mmpretrain."""

import re

from mmpretrain.models import LinearClsHead, SwinTransformer
from torch import Tensor, nn

from .family import Family, State, Table, count, rename, turned, with_head

# Computed by every constructor, and not kept by timm.
BUFFERS = ('relative_position_index', 'attn_mask')
BIAS_TABLE = 'relative_position_bias_table'
HEAD = 'head.fc.weight'


class Swin(Family):
    """Swin; timm merges patches before a stage, the others after it."""

    name = 'Swin'
    marks = dict(
        mmpretrain='backbone.stages.0.', paper='layers.0.downsample.', timm='layers.1.downsample.'
    )

    def table(self, state: State) -> Table:
        """Keys of the paper's release, and those of mmpretrain."""
        last = max(count(state, r'layers\.(\d+)\.'), count(state, r'backbone\.stages\.(\d+)\.')) - 1
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

    def to_mmpretrain(self, state: State, layout: str, path: str) -> State:
        """As in the base class, without the buffers."""
        state = {key: value for key, value in state.items() if not key.endswith(BUFFERS)}
        if layout == 'mmpretrain':
            return state
        if layout == 'timm':
            state = {
                key.replace('head.fc.', 'head.'): value
                for key, value in move_merging(state, -1).items()
            }
        state = rename(state, self.table(state), path)
        return reorder_merging(state, unfold=True)

    def from_mmpretrain(self, state: State, layout: str, path: str) -> State:
        """As in the base class, without the buffers."""
        state = {key: value for key, value in state.items() if not key.endswith(BUFFERS)}
        if layout == 'mmpretrain':
            return state
        state = reorder_merging(state, unfold=False)
        state = rename(state, turned(self.table(state)), path)
        if layout == 'timm':
            state = {
                re.sub(r'^head\.', 'head.fc.', key): value
                for key, value in move_merging(state, 1).items()
            }
        return state

    def build(self, state: State, path: str) -> nn.Module:
        """As in the base class."""
        stages = [
            f'backbone.stages.{i}.' for i in range(count(state, r'backbone\.stages\.(\d+)\.'))
        ]
        tables = [state[f'{stage}blocks.0.attn.w_msa.{BIAS_TABLE}'] for stage in stages]
        width, channels, patch_size = state['backbone.patch_embed.projection.weight'].shape[:3]
        positions = state.get('backbone.absolute_pos_embed')
        grid = 14 if positions is None else round(positions.shape[1] ** 0.5)
        backbone = SwinTransformer(
            arch=dict(
                embed_dims=width,
                depths=[count(state, re.escape(stage) + r'blocks\.(\d+)\.') for stage in stages],
                num_heads=[biases.shape[1] for biases in tables],
            ),
            img_size=grid * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
            use_abs_pos_embed=positions is not None,
            out_indices=(len(stages) - 1,),
        )
        head = (
            None
            if HEAD not in state
            else LinearClsHead(num_classes=len(state[HEAD]), in_channels=state[HEAD].shape[1])
        )
        return with_head(backbone, head)

    def complete(self, state: State, model: nn.Module) -> State:
        """Add the index buffers that mmpretrain keeps."""
        return {
            **state,
            **{key: value for key, value in model.state_dict().items() if key.endswith(BUFFERS)},
        }


def move_merging(state: State, by: int) -> State:
    """Count the stages of patch merging from before or after it."""
    return {
        re.sub(
            r'^layers\.(\d+)\.downsample', lambda m: f'layers.{int(m[1]) + by}.downsample', key
        ): value
        for key, value in state.items()
    }


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

    return {key: reorder(value) if '.downsample.' in key else value for key, value in state.items()}


def resize_tables(state: State, window_size: int) -> State:
    """Make a Swin's weights those of windows of another size."""
    return {
        key: resize_table(value, window_size) if key.endswith(BIAS_TABLE) else value
        for key, value in state.items()
    }


def resize_table(bias_table: Tensor, window_size: int) -> Tensor:
    """Interpolate relative-position biases, as the paper's code does.

    Args:
        bias_table (Tensor): ((2 w - 1)^2, heads), for a window of w x w.
        window_size (int): W, that of the result.

    Returns:
        Tensor: ((2 W - 1)^2, heads); the bias of distance zero is kept in
        the middle.
    """
    old, new = round(len(bias_table) ** 0.5), 2 * window_size - 1
    if old == new:
        return bias_table
    grid = bias_table.T.unflatten(1, (old, old))[None]
    grid = nn.functional.interpolate(
        grid.float(), size=(new, new), mode='bicubic', align_corners=False
    )
    return grid[0].flatten(1).T.to(bias_table.dtype).contiguous()
