"""Shares by contribution, block by block, decomposed the long way.

Every vector is split into what the own image and what its partner gives: with
x the residual stream before a block, s the shares of its tokens, A_h, v_h,
W_o, b_o attention and y the residual stream after attention,

    own = s x + g * (W_o concat_h(A_h (s v_h)) + (mean_h A_h s) b_o)

where g is layer scale, or the division of LV-ViT, and in Swin v2 the branch
is normalised with its own statistics in between. Imports nothing of the
package, and takes float64 backbones apart without help of it.

Shape letters: B samples, N tokens, W windows, P positions, h heads, C
channels.
"""

from functools import partial

import torch
from torch.nn import functional as F

from tests.oracles import geometry, vits, windows


def measure(own, whole, share, kind):
    """Shares (...) of vectors (..., C); where the whole is 0 it stays."""
    if kind == 'projection':
        size = (whole * whole).sum(-1)
        moved = ((own * whole).sum(-1) / size).clamp(0, 1)
    else:
        size = own.norm(dim=-1) + (whole - own).norm(dim=-1)
        moved = own.norm(dim=-1) / size
    return torch.where((whole == 0).all(-1), share, moved)


def step(share, kind, x, tokens, matrix, value, proj, gain=1.0, norm=None):
    """Shares (B, N) after one block of attention inside windows.

    Args:
        share (Tensor): (B, N) before it.
        kind (str): 'projection' or 'norm'.
        x (Tensor): Residual stream before the block (B, N, C).
        tokens (Tensor): (W, P), number of the token at each position, -1
            where it is padding, which carries the sample's mean share.
        matrix (Tensor): (B, W, h, P, P).
        value (Tensor): (B, W, h, P, d), padding included.
        proj (nn.Linear): The projection.
        gain (Tensor | float): What the branch is multiplied with. Defaults to 1.
        norm (nn.LayerNorm, optional): Of the branch. Defaults to None.
    """
    real = tokens >= 0
    s = torch.where(real, share[:, tokens], share.mean(1)[:, None, None])
    bias = torch.zeros_like(x[0, 0]) if proj.bias is None else proj.bias

    def branch(s):
        carried = torch.einsum('bwhij,bwj,bwhjd->bwihd', matrix, s, value)
        mixed = torch.einsum('bwhij,bwj->bwi', matrix, s) / matrix.shape[2]
        return carried.flatten(3) @ proj.weight.T + mixed[..., None] * bias, mixed[..., None]

    own, mixed = branch(s)
    whole, _ = branch(torch.ones_like(s))
    if norm is not None:
        spread = (whole.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        own = (own - own.mean(-1, keepdim=True)) / spread * norm.weight + mixed * norm.bias
        whole = F.layer_norm(whole, whole.shape[-1:], norm.weight, norm.bias, norm.eps)
    residual = x[:, tokens]  # anything where it is padding
    moved = measure(s[..., None] * residual + gain * own, residual + gain * whole, s, kind)
    out = torch.empty_like(share)
    out[:, tokens[real]] = moved[:, real]
    return out


def steps(backbone, images):
    """One function (share, kind) -> share for every block of a backbone.

    Args:
        backbone (nn.Module): In float64: a ViT, BEiT or Swin of mmpretrain, LV-ViT,
            timm's ViT or Swin, or torchvision's ViT.
        images (Tensor): (B, 3, H, W).
    """
    name = type(backbone).__module__.partition('.')[0]
    if hasattr(backbone, 'stages'):
        blocks, parts = _flat(backbone.stages), _swin_parts
    elif hasattr(backbone, 'rel_pos_bias'):
        blocks, parts = backbone.layers, partial(_beit_parts, backbone)
    elif hasattr(backbone, 'encoder'):
        blocks, parts = backbone.encoder.layers, _torchvision_parts
    elif name == 'timm' and hasattr(backbone, 'blocks'):
        blocks, parts = backbone.blocks, _timm_parts
    elif name == 'timm':
        blocks, parts = _flat(backbone.layers), _timm_swin_parts
    else:
        blocks, parts = backbone.layers, _vit_parts
    calls = geometry.record(backbone, images, blocks)
    return [partial(step, **parts(block, *args)) for block, args in zip(blocks, calls)]


def _flat(stages):
    return [block for stage in stages for block in stage.blocks]


def _global(x, matrix, value, proj, gain=1.0):
    """As one window of all tokens."""
    tokens = torch.arange(x.shape[1])[None]
    matrix, value = matrix[:, None], value[:, None]
    return dict(x=x, tokens=tokens, matrix=matrix, value=value, proj=proj, gain=gain)


def _vit_parts(layer, x):
    attn, normed = layer.attn, layer.ln1(x)
    gain = getattr(attn.gamma1, 'weight', 1.0) / getattr(attn.out_drop, 'skip_lam', 1)
    value = geometry.query_key_value(attn.qkv(normed), attn.num_heads)[2]
    return _global(x, vits.global_attention(attn, normed), value, attn.proj, gain)


def _beit_parts(backbone, layer, x, *args):
    attn, normed = layer.attn, layer.ln1(x)
    matrix, value = vits.beit_matrix(backbone, attn, normed), vits.beit_qkv(attn, normed)[2]
    return _global(x, matrix, value, attn.proj, 1.0 if layer.gamma_1 is None else layer.gamma_1)


def _timm_parts(block, x):
    attn, normed = block.attn, block.norm1(x)
    value = geometry.query_key_value(attn.qkv(normed), attn.num_heads)[2]
    matrix, gain = vits.timm_matrix(attn, normed), getattr(block.ls1, 'gamma', 1.0)
    return _global(x, matrix, value, attn.proj, gain)


def _torchvision_parts(layer, x):
    attn, normed = layer.self_attention, layer.ln_1(x)
    packed = F.linear(normed, attn.in_proj_weight, attn.in_proj_bias)
    value = geometry.query_key_value(packed, attn.num_heads)[2]
    return _global(x, vits.packed_matrix(attn, normed), value, attn.out_proj)


def _timm_swin_parts(block, x):
    tokens, matrix, value = windows.timm_swin_parts(block, x)
    return dict(x=x.flatten(1, 2), tokens=tokens, matrix=matrix, value=value, proj=block.attn.proj)


def _swin_parts(block, x, hw_shape):
    attn, w_msa = block.attn, block.attn.w_msa
    tokens, zones = windows.windows_of(attn, hw_shape)
    is_v2 = hasattr(w_msa, 'logit_scale')
    shown = geometry.gather(x if is_v2 else block.norm1(x), tokens)
    matrix = windows.window_attention(w_msa, shown, zones)
    weight, bias = w_msa.qkv.weight.chunk(3)[2], w_msa.qkv.bias
    bias = w_msa.v_bias if is_v2 else None if bias is None else bias.chunk(3)[2]
    value = geometry.split_heads(F.linear(shown, weight, bias), w_msa.num_heads)
    norm = block.norm1 if is_v2 else None
    return dict(x=x, tokens=tokens, matrix=matrix, value=value, proj=w_msa.proj, norm=norm)
