"""ViT, DeiT, distilled DeiT, DeiT-III of mmpretrain; LV-ViT."""

from functools import partial

from torch import Tensor, nn

from mmtlalign.interception import find_class, name_of

from ..sites import Attention, Branch, Site, Start
from . import Family, refuse_dropout, register_family, stock


@register_family(
    'mmpretrain.VisionTransformer', 'mmpretrain.DistilledVisionTransformer', 'mmpretrain.DeiT3'
)
class ViT(Family):
    """Every block mixes all tokens; extra tokens stand before the patches. Refuses ``qk_scale`` and
    value shortcuts."""

    def __init__(self, backbone: nn.Module) -> None:
        self.num_extra_tokens = backbone.num_extra_tokens
        blocks = [[self.site_of(backbone, layer)] for layer in backbone.layers]
        start = Start(backbone.patch_embed, self.num_extra_tokens)
        self.lay_out(start, blocks, backbone.out_indices)
        self.set_out_type(backbone)

    def set_out_type(self, backbone: nn.Module) -> None:
        """Learn what the head reads."""
        self.out_type = backbone.out_type
        if self.out_type == 'avg_featmap' and find_class(backbone, 'mmpretrain.DeiT3'):
            raise ValueError(
                "DeiT3 with out_type='avg_featmap' cannot run in mmpretrain (it builds no `ln2`); "
                "use 'cls_token', 'featmap' or 'raw'."
            )
        if self.out_type == 'cls_token':
            # The distilled pair has two tokens and a head that averages them.
            self.rows = slice(0, self.num_extra_tokens)
        elif self.out_type == 'raw' and self.num_extra_tokens:
            self.rows = slice(0, 1)

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        """The attention of a layer that is known to be stock."""
        names = 'mmpretrain.TransformerEncoderLayer', 'mmpretrain.DeiT3TransformerEncoderLayer'
        attn = stock(backbone, layer, *names).attn
        stock_attention(backbone, attn, 'mmpretrain.MultiheadAttention')
        # LV-ViT divides branches (arXiv 2104.10858); its shares do not change.
        skip_lam = getattr(attn.out_drop, 'skip_lam', 1.0)
        return StockAttention(attn, Branch(layer, attn.proj, attn.gamma1, 1 / skip_lam))


class StockAttention(Attention):
    """Stands in for ``attn.scaled_dot_product_attention`` of mmpretrain."""

    replaces = 'scaled_dot_product_attention'

    def run(self, query, key, value, dropout_p=0.0, scale=None) -> Tensor:
        refuse_dropout('attention', dropout_p)
        stock = partial(self.stock, query, key, value, scale=scale)
        return self.attend(stock, query, key, value, scale)


def stock_attention(backbone: nn.Module, attn: nn.Module, name: str) -> nn.Module:
    """Attention of mmpretrain that is stock, else TypeError, and has neither ``qk_scale`` nor a
    value shortcut, else ValueError."""
    stock(backbone, attn, name)
    name = name_of(backbone, attn)
    if isinstance(attn.scaled_dot_product_attention, partial):
        raise ValueError(
            f'{name} does not use the stock scaled dot product attention: `qk_scale` must be None '
            '(mmpretrain ignores its value and computes something else).'
        )
    if attn.v_shortcut:
        raise ValueError(f'{name} has v_shortcut=True, which adds values past attention; unset it.')
    return attn
