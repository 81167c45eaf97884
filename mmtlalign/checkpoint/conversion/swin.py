"""Swin, v1 and v2: the paper's release, timm 0.9 and newer, and mmpretrain."""

import re

from mmpretrain.models import SwinTransformer, SwinTransformerV2
from torch import Tensor, nn

from .family import Family, State, Table, count, with_linear_head

BIAS_TABLE = 'relative_position_bias_table'


class Swin(Family):
    """Swin; timm merges patches before a stage, the others after it."""

    name = 'Swin'
    marks = dict(
        mmpretrain='backbone.stages.0.blocks.',
        paper='layers.0.downsample.',
        timm='layers.1.downsample.',
    )
    buffers: tuple[str, ...] = ('relative_position_index', 'attn_mask')
    # What follows the order of four patches, and the stage of mmpretrain that
    # merges those of the first
    merging = ('.downsample.',)
    merged_in = 0
    grid = 14  # of patches, where no positions tell
    timm_name = 'swin_tiny_patch4_window7_224'

    def table(self, state: State, layout: str) -> Table:
        stages = max(count(state, r'layers\.(\d+)\.'), count(state, r'backbone\.stages\.(\d+)\.'))
        block, stage = 'layers.{}.blocks.{}.', 'backbone.stages.{}.blocks.{}.'
        return [
            ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
            ('patch_embed.norm.', 'backbone.patch_embed.norm.'),
            ('absolute_pos_embed', 'backbone.absolute_pos_embed'),
            (block + 'norm', stage + 'norm'),
            (block + 'attn.', stage + 'attn.w_msa.'),
            (block + 'mlp.fc1.', stage + 'ffn.layers.0.0.'),
            (block + 'mlp.fc2.', stage + 'ffn.layers.1.'),
            *(
                (
                    f'layers.{i + (layout == "timm")}.downsample.',
                    f'backbone.stages.{i + self.merged_in}.downsample.',
                )
                for i in range(stages - 1)
            ),
            ('norm.', f'backbone.norm{stages - 1}.'),
            ('head.fc.' if layout == 'timm' else 'head.', 'head.fc.'),
        ]

    def adopt(self, state: State) -> State:
        """As in the base class: the inputs of patch merging."""
        return reorder_merging(state, self.merging, unfold=True)

    def release(self, state: State) -> State:
        return reorder_merging(state, self.merging, unfold=False)

    def build(self, state: State, path: str) -> nn.Module:
        stages = range(count(state, r'backbone\.stages\.(\d+)\.'))
        blocks = [f'backbone.stages.{i}.blocks.' for i in stages]
        width, channels, patch_size = state['backbone.patch_embed.projection.weight'].shape[:3]
        positions = state.get('backbone.absolute_pos_embed')
        grid = self.grid if positions is None else round(positions.shape[1] ** 0.5)
        arch = dict(
            embed_dims=width,
            depths=[count(state, re.escape(block) + r'(\d+)\.') for block in blocks],
        )
        backbone = self.backbone(
            state,
            blocks,
            arch=arch,
            img_size=grid * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            use_abs_pos_embed=positions is not None,
            out_indices=(stages[-1],),
        )
        return with_linear_head(backbone, state)

    def backbone(self, state: State, blocks: list[str], arch: dict, **common) -> nn.Module:
        """mmpretrain's, of an ``arch`` that lacks the heads.

        Args:
            blocks (list[str]): What the keys of each stage's blocks begin with.
        """
        tables = [state[f'{block}0.attn.w_msa.{BIAS_TABLE}'] for block in blocks]
        arch['num_heads'] = [biases.shape[1] for biases in tables]
        window_size = (round(len(tables[0]) ** 0.5) + 1) // 2
        return SwinTransformer(arch=arch, window_size=window_size, **common)

    def timm_model(self, backbone: nn.Module, state: State) -> tuple[str, dict]:
        embed, block = backbone.patch_embed.projection, backbone.stages[0].blocks[0]
        arguments = dict(
            img_size=[n * embed.stride[0] for n in backbone.patch_resolution],
            patch_size=embed.kernel_size[0],
            in_chans=embed.in_channels,
            embed_dim=backbone.embed_dims,
            depths=list(backbone.depths),
            num_heads=list(backbone.num_heads),
            window_size=block.attn.window_size,
            mlp_ratio=block.ffn.feedforward_channels / backbone.embed_dims,
        )
        return self.timm_name, arguments


class SwinV2(Swin):
    """Swin v2; the size of its windows is not to be seen in weights."""

    name = 'Swin v2'
    buffers = (*Swin.buffers, 'relative_coords_table')
    merging = ('.downsample.reduction.',)  # normalized after it
    merged_in = 1
    grid = 64
    timm_name = 'swinv2_tiny_window8_256'

    def recognise(self, state: State) -> str | None:
        """As in the base class, if attention has a scale."""
        has_scale = any(key.endswith('.logit_scale') for key in state)
        return super().recognise(state) if has_scale else None

    def backbone(self, state: State, blocks: list[str], arch: dict, **common) -> nn.Module:
        arch['num_heads'] = [len(state[f'{block}0.attn.w_msa.logit_scale']) for block in blocks]
        extra = map(re.compile(r'.*\.blocks\.(\d+)\.norm3\.weight').match, state)
        arch['extra_norm_every_n_blocks'] = min((int(m[1]) + 1 for m in extra if m), default=0)
        return SwinTransformerV2(arch=arch, pretrained_window_sizes=[0 for _ in blocks], **common)

    def complete(self, state: State, model: nn.Module) -> State:
        """As it is: mmpretrain computes the buffers of v2 as it loads."""
        return state


def reorder_merging(state: State, keys: tuple[str, ...], unfold: bool) -> State:
    """Reorder the 4 C inputs of patch merging.

    The paper's model and timm lay the four patches side by side, the two of
    the left column first; mmpretrain's unfold keeps the patches of a channel
    together, row by row. No shape tells the two apart.

    Args:
        state (dict[str, Tensor]): In mmpretrain's keys.
        keys (tuple[str, ...]): Parts of the keys to reorder.
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

    return {
        key: reorder(value) if any(part in key for part in keys) else value
        for key, value in state.items()
    }


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
        Tensor: ((2 W - 1)^2, heads); the bias of distance zero is kept in the middle.
    """
    old, new = round(len(bias_table) ** 0.5), 2 * window_size - 1
    if old == new:
        return bias_table
    grid = bias_table.T.unflatten(1, (old, old))[None]
    grid = nn.functional.interpolate(
        grid.float(), size=(new, new), mode='bicubic', align_corners=False
    )
    return grid[0].flatten(1).T.to(bias_table.dtype).contiguous()
