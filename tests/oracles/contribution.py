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

from tests import oracle
from tests.oracles import beit, geometry, timm_swin

# `oracle` gives the windows of mmpretrain's Swin; it, too, stands alone.


def measure(own, whole, share, kind):
    """Shares (...) of vectors (..., C); where the whole is 0 it stays."""
    if kind == 'projection':
        size = (whole * whole).sum(-1)
        moved = ((own * whole).sum(-1) / size).clamp(0, 1)
    else:
        size = own.norm(dim=-1) + (whole - own).norm(dim=-1)
        moved = own.norm(dim=-1) / size
    return torch.where((whole == 0).all(-1), share, moved)


def global_step(x, matrix, value, weight, bias, gain, share, kind):
    """Shares (B, N) after one block of global attention.

    Args:
        x (Tensor): Residual stream before the block (B, N, C).
        matrix (Tensor): (B, h, N, N).
        value (Tensor): (B, h, N, d).
        weight, bias (Tensor): Of the projection; bias may be None.
        gain (Tensor | float): What the branch is multiplied with.
        share (Tensor): (B, N) before it.
        kind (str): 'projection' or 'norm'.
    """
    bias = torch.zeros_like(x[0, 0]) if bias is None else bias

    def branch(s):
        carried = torch.einsum('bhij,bj,bhjd->bihd', matrix, s, value)
        mixed = torch.einsum('bhij,bj->bi', matrix, s) / matrix.shape[1]
        return carried.flatten(2) @ weight.T + mixed[..., None] * bias

    own = share[..., None] * x + gain * branch(share)
    whole = x + gain * branch(torch.ones_like(share))
    return measure(own, whole, share, kind)


def window_step(x, tokens, matrix, value, weight, bias, norm, share, kind):
    """Shares (B, N) after one block of attention inside windows.

    Args:
        x, share, weight, bias, kind: As in :func:`global_step`.
        tokens (Tensor): (W, P), number of the token at each position, -1
            where it is padding, which carries the sample's mean share.
        matrix (Tensor): (B, W, h, P, P).
        value (Tensor): (B, W, h, P, d), padding included.
        norm (nn.LayerNorm, optional): Of the branch.
    """
    real = tokens >= 0
    mean = share.mean(1)[:, None, None]
    s = torch.where(real, share[:, tokens], mean)
    carried = torch.einsum('bwhij,bwj,bwhjd->bwihd', matrix, s, value)
    mixed = torch.einsum('bwhij,bwj->bwi', matrix, s) / matrix.shape[2]
    own = carried.flatten(3) @ weight.T + mixed[..., None] * bias
    whole = torch.einsum('bwhij,bwhjd->bwihd', matrix, value).flatten(3) @ weight.T + bias
    if norm is not None:
        spread = (whole.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        own = (own - own.mean(-1, keepdim=True)) / spread * norm.weight + (
            mixed[..., None] * norm.bias
        )
        whole = F.layer_norm(whole, whole.shape[-1:], norm.weight, norm.bias, norm.eps)
    residual = x[:, tokens]  # anything where it is padding
    moved = measure(s[..., None] * residual + own, residual + whole, s, kind)
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
        blocks, step = _flat(backbone.stages), _swin_step
    elif hasattr(backbone, 'rel_pos_bias'):
        blocks, step = backbone.layers, partial(_beit_step, backbone)
    elif hasattr(backbone, 'encoder'):
        blocks, step = backbone.encoder.layers, _torchvision_step
    elif name == 'timm' and hasattr(backbone, 'blocks'):
        blocks, step = backbone.blocks, _timm_step
    elif name == 'timm':
        blocks, step = _flat(backbone.layers), _timm_swin_step
    else:
        blocks, step = backbone.layers, _vit_step
    calls = geometry.record(backbone, images, blocks)
    return [step(block, *args) for block, args in zip(blocks, calls)]


def _flat(stages):
    return [block for stage in stages for block in stage.blocks]


def _global(x, packed, num_heads, norms, proj, gain):
    query, key, value = (geometry.split_heads(z, num_heads) for z in packed.chunk(3, dim=-1))
    query, key = (norm(z) for norm, z in zip(norms, (query, key)))
    matrix = geometry.softmax_of(query, key, query.shape[-1] ** -0.5)
    return partial(global_step, x, matrix, value, proj.weight, proj.bias, gain)


PLAIN = (lambda z: z, lambda z: z)


def _vit_step(layer, x):
    attn = layer.attn
    gain = getattr(attn.gamma1, 'weight', torch.ones_like(x[0, 0]))
    gain = gain / getattr(attn.out_drop, 'skip_lam', 1)
    return _global(x, attn.qkv(layer.ln1(x)), attn.num_heads, PLAIN, attn.proj, gain)


def _beit_step(backbone, layer, x, *args):
    attn, normed = layer.attn, layer.ln1(x)
    matrix = beit.beit_matrix(backbone, attn, normed)
    value = beit.beit_qkv(attn, normed)[2].transpose(1, 2)
    gain = 1.0 if layer.gamma_1 is None else layer.gamma_1
    return partial(global_step, x, matrix, value, attn.proj.weight, attn.proj.bias, gain)


def _timm_step(block, x):
    attn = block.attn
    gain = getattr(block.ls1, 'gamma', torch.ones_like(x[0, 0]))
    return _global(
        x, attn.qkv(block.norm1(x)), attn.num_heads, (attn.q_norm, attn.k_norm), attn.proj, gain
    )


def _torchvision_step(layer, x):
    attn = layer.self_attention
    packed = F.linear(layer.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
    return _global(x, packed, attn.num_heads, PLAIN, attn.out_proj, 1.0)


def _timm_swin_step(block, x):
    tokens, matrix, value = timm_swin.parts(block, x)
    proj = block.attn.proj
    residual = x.flatten(1, 2)
    return partial(window_step, residual, tokens, matrix, value, proj.weight, proj.bias, None)


def _swin_step(block, x, hw_shape):
    attn, w_msa = block.attn, block.attn.w_msa
    tokens, zones = oracle.windows_of(attn, hw_shape)
    is_v2 = hasattr(w_msa, 'logit_scale')
    shown = geometry.gather(x if is_v2 else block.norm1(x), tokens)
    matrix = oracle.window_attention(w_msa, shown, zones)
    weight, bias = w_msa.qkv.weight.chunk(3)[2], w_msa.qkv.bias
    bias = w_msa.v_bias if is_v2 else None if bias is None else bias.chunk(3)[2]
    value = F.linear(shown, weight, bias).unflatten(-1, (w_msa.num_heads, -1)).transpose(2, 3)
    norm, proj = block.norm1 if is_v2 else None, w_msa.proj
    return partial(window_step, x, tokens, matrix, value, proj.weight, proj.bias, norm)
