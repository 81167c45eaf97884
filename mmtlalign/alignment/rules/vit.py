"""Rule for backbones of global attention: ViT, DeiT, distilled DeiT, DeiT-III.

TL-Align (arXiv 2210.06455, section 3.3): after every block
``s <- (s + mean_heads(A) s) / 2`` over all tokens.
"""
from typing import List

import torch
from mmpretrain.models.backbones.deit3 import (
    DeiT3,
    DeiT3TransformerEncoderLayer,
)
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer,
)
from mmpretrain.models.utils import attention
from torch import Tensor, nn

from .base import Mover, Patch, Rule, name_of, refuse_dropout, require_exact


class GlobalAttentionRule(Rule):
    """Every block mixes all tokens; extra tokens stand before the patches.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: Attention dropout, ``qk_scale``, a value shortcut, or an
            output that the backbone never gives.
    """

    def __init__(self, backbone: nn.Module) -> None:
        for layer in backbone.layers:
            require_exact(backbone, layer, TransformerEncoderLayer,
                          DeiT3TransformerEncoderLayer)
            _check_attention(backbone, layer.attn)
        self.out_type = backbone.out_type
        self.num_extra_tokens = backbone.num_extra_tokens
        self.attentions = [layer.attn for layer in backbone.layers]
        self.output_move = max(backbone.out_indices) + 1
        self._check_output(backbone)

    def _check_output(self, backbone: nn.Module) -> None:
        if isinstance(backbone, DeiT3) and self.out_type == 'avg_featmap':
            raise ValueError(
                "DeiT3 with out_type='avg_featmap' cannot run in mmpretrain "
                "(it builds no `ln2`); use 'cls_token', 'featmap' or 'raw'.")
        depth = len(self.attentions)
        if self.output_move > depth:
            raise ValueError(
                f'out_indices {tuple(backbone.out_indices)} asks for block '
                f'{self.output_move - 1}, but the last of {depth} blocks is '
                f'{depth - 1}.')

    def movers(self, trace) -> List[Mover]:
        return [_SharingAttention(trace, attn) for attn in self.attentions]

    def start(self, token_share: Tensor) -> Tensor:
        patches = token_share.flatten(1)
        extra = patches.mean(dim=1, keepdim=True)
        return torch.cat(
            (extra.expand(-1, self.num_extra_tokens), patches), dim=1)

    def read(self, share: Tensor) -> Tensor:
        if self.out_type == 'cls_token':
            # The distilled pair has two tokens and a head that averages them.
            return share[:, :self.num_extra_tokens].mean(dim=1)
        if self.out_type == 'raw' and self.num_extra_tokens > 0:
            return share[:, 0]
        return share[:, self.num_extra_tokens:].mean(dim=1)


def _check_attention(backbone: nn.Module, attn: nn.Module) -> None:
    require_exact(backbone, attn, attention.MultiheadAttention)
    name = name_of(backbone, attn)
    refuse_dropout(name, attn.attn_drop)
    if (attn.scaled_dot_product_attention
            is not attention.scaled_dot_product_attention):
        raise ValueError(
            f'{name} does not use the stock scaled dot product attention: '
            '`qk_scale` must be None (mmpretrain ignores its value and '
            'computes something else).')
    if attn.v_shortcut:
        raise ValueError(f'{name} has v_shortcut=True, which adds values '
                         'past attention; set it to False.')


class _SharingAttention(Mover):
    """Stands in for ``attn.scaled_dot_product_attention``."""

    def __init__(self, trace, attn: nn.Module) -> None:
        super().__init__(trace)
        self.attn = attn
        self.stock = attn.scaled_dot_product_attention

    def patches(self) -> List[Patch]:
        return [Patch(self.attn, 'scaled_dot_product_attention', self)]

    def __call__(self, query, key, value, dropout_p=0.):
        trace = self.trace
        if not trace.moving:
            return self.stock(query, key, value, dropout_p=dropout_p)
        refuse_dropout('attention', dropout_p)
        out, mixed = trace.attend(query, key, value)
        self.move((trace.share + mixed) / 2)
        return out
