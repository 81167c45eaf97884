"""ViT, DeiT, distilled DeiT and DeiT-III of timm.

Global attention over all tokens in every block; TL-Align (arXiv 2210.06455,
section 3.3). Attention is fused, where a stand-in takes the place of
``F.scaled_dot_product_attention``, or not, where its matrix is caught.
"""
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from ..sites import (
    Attention,
    Branch,
    CaughtAttention,
    InterceptAttention,
    Site,
    Start,
    of_map,
)
from . import (
    Family,
    build_family,
    name_of,
    refuse_dropout,
    refuse_family,
    register_family,
    require_exact,
)

refuse_family('timm.Eva', reason='its blocks add tokens by rotary attention '
              'of their own; use mmpretrain.ViTEVA02')
refuse_family('timm.NaFlexVit', reason='it packs images of any size behind '
              'masks, so that a batch has no grid')
refuse_family('timm.FeatureGetterNet', 'timm.FeatureListNet',
              'timm.FeatureDictNet', 'timm.FeatureHookNet',
              reason='it takes a model apart; build it with '
              'features_only=False')


@register_family('mmpretrain.TIMMBackbone')
def of_wrapped_model(backbone: nn.Module) -> Family:
    """The family of the model in mmpretrain's wrapper."""
    return build_family(backbone.timm_model)


@register_family('timm.VisionTransformer', 'timm.VisionTransformerDistilled')
class TimmViT(Family):
    """Every block mixes all tokens; class, distillation and register tokens
    stand before the patches.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: Attention dropout, gates, dropped patches, or a pooling
            that is no mean of tokens.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.num_extra_tokens = backbone.num_prefix_tokens
        self._choose_tokens(backbone)
        require_exact(backbone, backbone.patch_embed, 'timm.PatchEmbed')
        if not isinstance(backbone.patch_drop, nn.Identity):
            raise ValueError('patch_drop_rate drops patches, and their shares '
                             'with them; set it to 0.')
        self.sites = [
            Start(backbone.patch_embed.proj, self.num_extra_tokens, of_map),
            *(_attention(backbone, block) for block in backbone.blocks)]
        self.output = self.sites[-1]

    def _choose_tokens(self, backbone: nn.Module) -> None:
        pool = backbone.global_pool
        if pool not in ('', 'token', 'avg'):
            raise ValueError(
                f'global_pool={pool!r} weighs tokens in a way that shares '
                "cannot follow; use 'token' or 'avg'.")
        if pool != 'avg' and self.num_extra_tokens:
            # the distilled pair is averaged; registers are not read
            self.num_rows = 2 if hasattr(backbone, 'dist_token') else 1
        self.first = 0 if backbone.pool_include_prefix else (
            self.num_extra_tokens)

    def read(self, share: Tensor) -> Tensor:
        if self.num_rows is not None:
            return share[:, :self.num_rows].mean(dim=1)
        return share[:, self.first:].mean(dim=1)


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    attn = block.attn
    require_exact(backbone, block, 'timm.Block')
    require_exact(backbone, attn, 'timm.Attention')
    name = name_of(backbone, attn)
    refuse_dropout(name, attn.attn_drop.p)
    if attn.gate is not None:
        raise ValueError(f'{name} gates its output, so that the rows of '
                         'attention no longer sum to one; set gated=False.')
    # between values and projection a norm is not linear
    branch = Branch(block, attn.proj, block.ls1) if isinstance(
        attn.norm, nn.Identity) else None
    if attn.fused_attn:
        return FusedAttention(attn, branch)
    return CaughtAttention(attn, attn.attn_drop, branch=branch, values=_values)


class FusedAttention(Attention):
    """Stands in for ``F.scaled_dot_product_attention`` inside ``forward``."""

    def stand_ins(self) -> Iterator:
        yield from super().stand_ins()
        self.stock = self.attn.forward
        yield self.attn, 'forward', self.forward

    def forward(self, *args, **kwargs) -> Tensor:
        if not self.moving:
            return self.stock(*args, **kwargs)
        with InterceptAttention(self.instead):
            return self.stock(*args, **kwargs)

    def instead(self, stock, query: Tensor, key: Tensor, value: Tensor,
                attn_mask=None, dropout_p=0., is_causal=False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise ValueError('shares cannot follow fused attention with a '
                             'mask; call the backbone without one.')
        refuse_dropout('attention', dropout_p)
        return self.attend(partial(stock, query, key, value), query, key,
                           value)


def _values(attn: nn.Module, tokens: Tensor, *args) -> Tensor:
    """Values (B, H, M, D) of attention over tokens (B, M, C)."""
    value = attn.qkv(tokens).chunk(3, dim=-1)[2]
    return value.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
