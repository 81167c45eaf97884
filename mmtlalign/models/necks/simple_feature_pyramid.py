"""A feature pyramid from the one map of a plain vision transformer."""

import math
from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmtlalign.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Levels of several strides, each made from the last map alone.

    The neck of `Exploring Plain Vision Transformer Backbones for Object Detection
    <https://arxiv.org/abs/2203.16527>`_ (ViTDet). A level finer than the map comes from 2x2
    deconvolutions of stride 2, each of which halves the channels, with a norm and GELU between two
    of them; a coarser one from max pooling. A 1x1 and a 3x3 convolution follow, both without bias,
    with a norm and without activation. Levels do not see each other, as they would in a stock
    ``FPN``.

    Args:
        in_channels (int): Channels C of the map.
        out_channels (int): Channels of every level.
        scales (Sequence[float]): Size of each level over that of the map, finest first; powers of
            two. Defaults to (4, 2, 1, 0.5), which makes strides 4 to 32 of patches of 16 px.
        num_outs (int): Levels in all. Those beyond ``scales`` take every second position of the
            level before. Defaults to 5.
        norm_cfg (dict): Norm over channels at each position. Defaults to
            ``dict(type='mmpretrain.LN2d')``.
        init_cfg (dict, optional): Defaults to None: PyTorch's for the deconvolutions, mmcv's for
            the convolutions.

    Raises:
        ValueError: If a scale is no power of two, ``scales`` do not descend, ``in_channels`` cannot
            be halved as often as the finest level needs, or there are more scales than
            ``num_outs``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        norm_cfg: dict = dict(type='mmpretrain.LN2d'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(in_channels, scales, num_outs)
        self.num_outs = num_outs
        self.levels = nn.ModuleList(
            _level(in_channels, out_channels, scale, norm_cfg) for scale in scales
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Make ``num_outs`` maps, finest first, of the last one, (B, C, H, W), of a backbone.

        Level i is (B, out_channels, H * scales[i], W * scales[i]), rounded down, and every further
        one half the size of that before it, rounded up.
        """
        outs = [level(inputs[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)


def _check(in_channels: int, scales: Sequence[float], num_outs: int) -> None:
    """Refuse what cannot be built; see the class."""
    for scale in scales:
        if scale <= 0 or not math.log2(scale).is_integer():
            raise ValueError(f'scales must be powers of two, got {scale}')
    if list(scales) != sorted(set(scales), reverse=True):
        raise ValueError(f'scales must descend, without a repetition, got {tuple(scales)}')
    if scales[0] > 1 and in_channels % scales[0]:
        raise ValueError(
            f'in_channels must be a multiple of the finest scale, {scales[0]}, got {in_channels}'
        )
    if num_outs < len(scales):
        raise ValueError(
            f'num_outs must be at least the number of scales, {len(scales)}, got {num_outs}'
        )


def _level(channels: int, out_channels: int, scale: float, norm_cfg: dict) -> nn.Sequential:
    """The layers from the map to one level."""
    layers = [nn.MaxPool2d(int(1 / scale))] if scale < 1 else []
    while scale > 1:
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels, scale = channels // 2, scale / 2
        if scale > 1:
            layers += [build_norm_layer(norm_cfg, channels)[1], nn.GELU()]
    convs = dict(norm_cfg=norm_cfg, act_cfg=None)
    return nn.Sequential(
        *layers,
        ConvModule(channels, out_channels, 1, **convs),
        ConvModule(out_channels, out_channels, 3, padding=1, **convs),
    )
