"""ViT of torchvision."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtlalign.interception import inside_checkpoint

from ..sites import Attention, Branch, Start, of_map
from . import Family, register_family, stock


@register_family('torchvision.VisionTransformer')
class TorchvisionViT(Family):
    """Every block mixes all tokens; the head reads the class token."""

    num_extra_tokens = 1
    rows = slice(0, 1)

    def __init__(self, backbone: nn.Module) -> None:
        blocks = []
        parts = dict(self_attention='torch.MultiheadAttention')
        for layer in backbone.encoder.layers:
            attn = stock(backbone, layer, 'torchvision.EncoderBlock', **parts).self_attention
            blocks.append([PackedAttention(attn, Branch(layer, attn.out_proj))])
        self.lay_out(Start(backbone.conv_proj, 1, of_map), blocks, [len(blocks) - 1])


class PackedAttention(Attention):
    """Self-attention of ``nn.MultiheadAttention``, whose function cannot be intercepted: it is
    written out, and so equals stock up to rounding."""

    def run(self, query: Tensor, *args, **kwargs):
        if not inside_checkpoint():
            return self.write_out(query), None
        # the recomputation must meet the tensors of the stock call
        with torch.no_grad():
            self.write_out(query)
        return self.stock(query, *args, **kwargs)

    def write_out(self, tokens: Tensor) -> Tensor:
        attn = self.module
        packed = F.linear(tokens, attn.in_proj_weight, attn.in_proj_bias)
        qkv = packed.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        out = self.attend(partial(F.scaled_dot_product_attention, *qkv), *qkv)
        out = attn.out_proj(out.transpose(1, 2).flatten(2))
        if self.branch.block.dropout.p:
            # it draws in the order of memory: tokens first, as in stock
            out = out.transpose(0, 1).contiguous().transpose(0, 1)
        return out
