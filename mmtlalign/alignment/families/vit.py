"""ViT, DeiT, distilled DeiT, DeiT-III of mmpretrain; LV-ViT.

Global attention over all tokens in every block; TL-Align (arXiv 2210.06455,
section 3.3).
"""
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from ..sites import Attention, Branch, Site, Start
from . import (
    Family,
    MergingBlock,
    check_out_indices,
    find_class,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)


@register_family('mmpretrain.VisionTransformer',
                 'mmpretrain.DistilledVisionTransformer', 'mmpretrain.DeiT3')
class ViT(Family):
    """Every block mixes all tokens; extra tokens stand before the patches.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: Attention dropout, ``qk_scale``, a value shortcut, or an
            output that the backbone never gives.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.out_type = backbone.out_type
        self.num_extra_tokens = backbone.num_extra_tokens
        if find_class(backbone, 'mmpretrain.DeiT3') and (
                self.out_type == 'avg_featmap'):
            raise ValueError(
                "DeiT3 with out_type='avg_featmap' cannot run in mmpretrain "
                "(it builds no `ln2`); use 'cls_token', 'featmap' or 'raw'.")
        blocks = [self.site_of(backbone, layer) for layer in backbone.layers]
        self.sites = [Start(backbone.patch_embed, self.num_extra_tokens),
                      *blocks]
        self.output = blocks[
            check_out_indices(backbone.out_indices, len(blocks))]
        if self.out_type == 'cls_token' or (
                self.out_type == 'raw' and self.num_extra_tokens):
            self.num_rows = self.num_extra_tokens
        # relatives such as BEiT have other blocks
        self.merging_blocks = tuple(
            MergingBlock(layer, site, _ffn_norm(layer), layer.ffn)
            for layer, site in zip(backbone.layers, blocks)
            if isinstance(site, StockAttention))
        self.pooling = (backbone, '_format_output')

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        """The attention of a layer that is known to be stock."""
        require_exact(backbone, layer, 'mmpretrain.TransformerEncoderLayer',
                      'mmpretrain.DeiT3TransformerEncoderLayer')
        check_attention(backbone, layer.attn)
        return StockAttention(layer.attn, _branch(layer))

    def read(self, share: Tensor) -> Tensor:
        if self.out_type == 'cls_token':
            # The distilled pair has two tokens and a head that averages them.
            return share[:, :self.num_extra_tokens].mean(dim=1)
        if self.out_type == 'raw' and self.num_extra_tokens:
            return share[:, 0]
        return super().read(share)


class StockAttention(Attention):
    """Stands in for ``attn.scaled_dot_product_attention`` of mmpretrain."""

    def stand_ins(self) -> Iterator:
        yield from super().stand_ins()
        self.stock = self.attn.scaled_dot_product_attention
        yield self.attn, 'scaled_dot_product_attention', self

    def __call__(self, query: Tensor, key: Tensor, value: Tensor,
                 dropout_p: float = 0., scale: float | None = None) -> Tensor:
        stock = partial(self.stock, query, key, value, dropout_p=dropout_p,
                        scale=scale)
        if not self.moving:
            return stock()
        refuse_dropout('attention', dropout_p)
        return self.attend(stock, query, key, value, scale)


def _ffn_norm(layer: nn.Module) -> nn.Module:
    # DeiT-III of mmpretrain calls `ln1` twice and never `ln2`.
    is_deit3 = find_class(layer, 'mmpretrain.DeiT3TransformerEncoderLayer')
    return layer.ln1 if is_deit3 else layer.ln2


def _branch(layer: nn.Module) -> Branch:
    # LV-ViT divides branches (arXiv 2104.10858); its shares do not change.
    skip_lam = getattr(layer.attn.out_drop, 'skip_lam', 1.)
    return Branch(layer, layer.attn.proj,
                  scale=LayerScale(layer.attn.gamma1, 1 / skip_lam))


class LayerScale:
    """A stock layer scale, and a number."""

    def __init__(self, gamma: nn.Module, factor: float) -> None:
        self.gamma = gamma
        self.factor = factor

    def __call__(self, branch: Tensor) -> Tensor:
        return self.gamma(branch) * self.factor


def check_attention(backbone: nn.Module, attn: nn.Module,
                    name: str = 'mmpretrain.MultiheadAttention') -> None:
    """Raise TypeError or ValueError for attention of mmpretrain that is not
    stock, or has dropout, ``qk_scale`` or a value shortcut."""
    require_exact(backbone, attn, name)
    name = name_of(backbone, attn)
    refuse_dropout(name, attn.attn_drop)
    if isinstance(attn.scaled_dot_product_attention, partial):
        raise ValueError(
            f'{name} does not use the stock scaled dot product attention: '
            '`qk_scale` must be None (mmpretrain ignores its value and '
            'computes something else).')
    if attn.v_shortcut:
        raise ValueError(f'{name} has v_shortcut=True, which adds values '
                         'past attention; set it to False.')
