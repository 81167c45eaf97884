"""Rule for backbones of window attention: Swin Transformer, v1 and v2.

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, and the mean over merged tokens in patch merging. The paper gives the
principle for hierarchical backbones; no code was published for them.
"""
from typing import List

import torch
from mmcv.cnn.bricks.transformer import PatchMerging
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.backbones.swin_transformer_v2 import (
    SwinBlockV2,
    SwinTransformerV2,
)
from mmpretrain.models.utils import PatchMerging as PatchMergingV2
from mmpretrain.models.utils import ShiftWindowMSA, WindowMSA, WindowMSAV2
from torch import Tensor, nn

from .base import Mover, Patch, Rule, name_of, refuse_dropout, require_exact


class WindowAttentionRule(Rule):
    """Blocks mix tokens inside (shifted) windows, stages merge tokens.

    Raises:
        TypeError: A block, its attention or a merging is not the stock class.
        ValueError: Attention dropout, or a merging whose cells overlap, leave
            gaps or lie wholly in padding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        for stage in backbone.stages:
            for block in stage.blocks:
                require_exact(backbone, block, SwinBlock, SwinBlockV2)
                _check_windows(backbone, block.attn)
            if stage.downsample is not None:
                _check_merging(backbone, stage.downsample)
        self._order(backbone)

    def _order(self, backbone: nn.Module) -> None:
        """List what moves shares in the order of the forward."""
        merging_first = isinstance(backbone, SwinTransformerV2)
        after_merging = getattr(backbone, 'out_after_downsample', False)
        self.moves = []
        for i, stage in enumerate(backbone.stages):
            merging = [] if stage.downsample is None else [stage.downsample]
            blocks = [block.attn for block in stage.blocks]
            self.moves += merging + blocks if merging_first else blocks
            if i == max(backbone.out_indices) and not after_merging:
                self.output_move = len(self.moves)
            self.moves += [] if merging_first else merging
            if i == max(backbone.out_indices) and after_merging:
                self.output_move = len(self.moves)

    def movers(self, trace) -> List[Mover]:
        return [
            _SharingWindows(trace, module)
            if isinstance(module, ShiftWindowMSA) else
            _SharingMerging(trace, module) for module in self.moves
        ]

    def start(self, token_share: Tensor) -> Tensor:
        return token_share.flatten(1)

    def read(self, share: Tensor) -> Tensor:
        return share.mean(dim=1)


def _check_windows(backbone: nn.Module, attn: nn.Module) -> None:
    require_exact(backbone, attn, ShiftWindowMSA)
    require_exact(backbone, attn.w_msa, WindowMSA, WindowMSAV2)
    w_msa, name = attn.w_msa, name_of(backbone, attn.w_msa)
    refuse_dropout(name, w_msa.attn_drop.p)


def _check_merging(backbone: nn.Module, merging: nn.Module) -> None:
    require_exact(backbone, merging, PatchMerging, PatchMergingV2)
    name = name_of(backbone, merging)
    sampler = merging.sampler
    kernel, stride = tuple(sampler.kernel_size), tuple(sampler.stride)
    if kernel != stride:
        raise ValueError(
            f'{name} merges with kernel_size {kernel} and stride {stride}; '
            'shares need cells that neither overlap nor leave gaps: make them '
            'equal.')
    for option, plain in (('padding', (0, 0)), ('dilation', (1, 1))):
        value = tuple(getattr(sampler, option))
        if value != plain:
            raise ValueError(f'{name} merges with {option} {value}; only '
                             f"{plain} is supported (or padding='corner' or "
                             "'same').")


class _SharingWindows(Mover):
    """Runs stock window attention, then the same windows over shares.

    The stock forward sends its attention matrix through ``w_msa.softmax``,
    where the head mean is caught; the stock geometry (padding, shift,
    partition) is then run again over the two channels [share, valid].
    """

    def __init__(self, trace, attn: ShiftWindowMSA) -> None:
        super().__init__(trace)
        self.attn = attn
        self.geometry = _WindowGeometry(attn)
        self.stock_forward = attn.forward
        self.stock_softmax = attn.w_msa.softmax.forward

    def patches(self) -> List[Patch]:
        return [
            Patch(self.attn.w_msa.softmax, 'forward', self.softmax),
            Patch(self.attn, 'forward', self.forward)
        ]

    def softmax(self, scores: Tensor) -> Tensor:
        attention = self.stock_softmax(scores)
        if self.trace.moving:
            with torch.no_grad():
                self.geometry.attention = attention.mean(
                    dim=1, dtype=torch.float32)
        return attention

    def forward(self, query: Tensor, hw_shape) -> Tensor:
        out = self.stock_forward(query, hw_shape)
        if self.trace.moving:
            share = self.trace.share
            with torch.no_grad(), torch.autocast(
                    share.device.type, enabled=False):
                self.move((share + self._mix(share, hw_shape)) / 2)
            self.geometry.attention = None
        return out

    def _mix(self, share: Tensor, hw_shape) -> Tensor:
        channels = torch.stack((share, torch.ones_like(share)), dim=-1)
        mixed = ShiftWindowMSA.forward(self.geometry, channels, hw_shape)
        # `valid` is 0 on padding, so padding has no weight.
        return mixed[..., 0] / mixed[..., 1]


class _WindowGeometry:
    """What ``ShiftWindowMSA.forward`` reads of its ``self``, with the learned
    attention replaced by the matrix it just computed, masks included."""

    window_partition = staticmethod(ShiftWindowMSA.window_partition)
    window_reverse = staticmethod(ShiftWindowMSA.window_reverse)

    def __init__(self, attn: ShiftWindowMSA) -> None:
        self.window_size = attn.window_size
        self.shift_size = attn.shift_size
        self.pad_small_map = attn.pad_small_map
        self.attention = None

    def w_msa(self, windows: Tensor, mask=None) -> Tensor:
        return self.attention @ windows

    def get_attn_mask(self, *args, **kwargs) -> None:
        return None

    def drop(self, x: Tensor) -> Tensor:
        return x


class _SharingMerging(Mover):
    """Runs stock patch merging, then the mean of the real tokens merged."""
    in_block = False

    def __init__(self, trace, merging: nn.Module) -> None:
        super().__init__(trace)
        self.merging = merging
        self.stock_forward = merging.forward

    def patches(self) -> List[Patch]:
        return [Patch(self.merging, 'forward', self.forward)]

    def forward(self, x: Tensor, input_size):
        out = self.stock_forward(x, input_size)
        if self.trace.moving:
            with torch.no_grad():
                share = self.trace.share.unflatten(1, tuple(input_size))
                self.move(
                    self._sum(share) / self._sum(torch.ones_like(share)))
        return out

    def _sum(self, grid: Tensor) -> Tensor:
        """(B, H, W) -> sums over merged cells (B, N), padding counts 0."""
        grid = grid[:, None]
        if self.merging.adaptive_padding:
            grid = self.merging.adaptive_padding(grid)
        return self.merging.sampler(grid).sum(dim=1)
