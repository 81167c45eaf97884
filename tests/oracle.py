"""Token labels moved the slow way: the oracle of the alignment tests.

Every token carries one number per class here, where the package carries a
single share. The stock backbone runs untouched; the inputs of its attention
modules are recorded, their attention matrices rebuilt from the weights, and
the labels moved along explicit lists of positions. Nothing of the package is
imported, so that an error in it cannot hide here as well.

Shape letters: B samples, N tokens, K classes, W windows, P positions in one
window, h heads, C channels.
"""

import copy

import torch
from mmpretrain.models.utils import WindowMSAV2
from torch.nn import functional as F

from .oracles.geometry import (
    attend,
    attend_windows,
    gather,
    offsets,
    pool,
    read,
    record,
    shifted_windows,
    softmax_of,
    split_heads,
    start,
)


def dense_labels(backbone, images, token_labels):
    """:func:`labels_of` in float64, of a copy of the backbone."""
    with torch.no_grad():
        backbone = copy.deepcopy(backbone).double()
        return labels_of(backbone, images.double(), token_labels.double())


def labels_of(backbone, images, token_labels):
    """Move dense labels through a stock mmpretrain backbone.

    Args:
        backbone (nn.Module): A stock ``VisionTransformer``, ``DistilledVisionTransformer``,
            ``DeiT3``, ``SwinTransformer`` or ``SwinTransformerV2``.
        images (Tensor): Mixed images (B, 3, H, W) in its precision.
        token_labels (Tensor): Label of every patch (B, rows, cols, K).

    Returns:
        tuple[list[Tensor], Tensor]: Labels after each block, class token
        first (B, N, K), and the label of what the head reads (B, K).
    """
    if hasattr(backbone, 'stages'):
        layers, move = [block for stage in backbone.stages for block in stage.blocks], _move_swin
    else:
        layers, move = backbone.layers, _move_vit
    calls = record(backbone, images, [layer.attn for layer in layers])
    return move(backbone, calls, token_labels)


def _move_vit(backbone, calls, token_labels):
    """Follow the layers of a plain vision transformer."""
    extra = backbone.num_extra_tokens
    labels, blocks = start(token_labels, extra), []
    for layer, (x,) in zip(backbone.layers, calls, strict=True):
        labels = (labels + attend(global_attention(layer.attn, x), labels)) / 2
        blocks.append(labels)

    last = blocks[max(backbone.out_indices)]
    if backbone.out_type == 'cls_token':
        # one class token, or the distilled pair, which the head averages
        return blocks, last[:, :extra].mean(1)
    return blocks, read(backbone, last, extra)


def global_attention(attn, x):
    """Matrix (B, h, N, N) of a ``MultiheadAttention``."""
    query, key, _ = attn.qkv(x).chunk(3, dim=-1)
    query, key = (split_heads(z, attn.num_heads) for z in (query, key))
    return softmax_of(query, key, attn.head_dims**-0.5)


def _move_swin(backbone, calls, token_labels):
    """Follow the stages of a Swin transformer, first or second version."""
    labels, hw, calls = start(token_labels), token_labels.shape[1:3], iter(calls)
    merges_first = type(backbone).__name__ == 'SwinTransformerV2'
    merges_before_output = getattr(backbone, 'out_after_downsample', False)
    blocks = []
    for number, stage in enumerate(backbone.stages):
        if stage.downsample and merges_first:
            labels, hw = _merge(stage.downsample, labels, hw)
        for block in stage.blocks:
            x, seen_hw = next(calls)
            assert tuple(seen_hw) == tuple(hw)
            tokens, zones = windows_of(block.attn, hw)
            matrix = window_attention(block.attn.w_msa, gather(x, tokens), zones)
            labels = (labels + attend_windows(matrix, labels, tokens)) / 2
            blocks.append(labels)
        output = labels
        if stage.downsample and not merges_first:
            labels, hw = _merge(stage.downsample, labels, hw)
        if merges_before_output:
            output = labels
        if number == max(backbone.out_indices):
            aligned = output.mean(1)
    return blocks, aligned


def windows_of(attn, hw):
    """Numbers and zones of the positions in the windows of a ``ShiftWindowMSA``."""
    shift = attn.shift_size
    if min(hw) == attn.window_size and not attn.pad_small_map:
        shift = 0
    return shifted_windows(hw, attn.window_size, shift)


def window_attention(w_msa, x, zones):
    """Matrix (B, W, h, P, P) of a window attention."""
    heads = w_msa.num_heads
    if isinstance(w_msa, WindowMSAV2):
        bias = None
        if w_msa.q_bias is not None:
            key_bias = torch.zeros_like(w_msa.q_bias)
            bias = torch.cat([w_msa.q_bias, key_bias, w_msa.v_bias])
        qkv = F.linear(x, w_msa.qkv.weight, bias)
        table = w_msa.cpb_mlp(w_msa.relative_coords_table).view(-1, heads)
        table = 16 * table.sigmoid()
    else:
        qkv = w_msa.qkv(x)
        table = w_msa.relative_position_bias_table
    query, key, _ = qkv.unflatten(-1, (3, heads, -1)).unbind(-3)
    if isinstance(w_msa, WindowMSAV2):
        # cosine attention; the temperature is bounded by 100
        query = query / query.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        key = key / key.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        scale = w_msa.logit_scale.exp().clamp(max=100.0)
    else:
        scale = w_msa.scale
    logits = scale * torch.einsum('bwihc,bwjhc->bwhij', query, key)

    logits = logits + table[offsets(*w_msa.window_size)].permute(2, 0, 1)
    apart = zones[:, :, None] != zones[:, None, :]
    logits = logits - 100.0 * apart[:, None]
    return logits.softmax(-1)


def _merge(downsample, labels, hw):
    """Mean over the real tokens that a ``PatchMerging`` joins.

    Returns:
        tuple[Tensor, tuple[int, int]]: Merged labels (B, N, K) and the rows and columns they form.
    """
    sampler, adaptive = downsample.sampler, downsample.adaptive_padding
    kernel, stride = sampler.kernel_size, sampler.stride
    if adaptive is None:
        return pool(labels, hw, kernel, stride, sampler.padding)
    missing = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(hw, kernel, stride)]
    before = tuple(n // 2 if adaptive.padding == 'same' else 0 for n in missing)
    return pool(labels, hw, kernel, stride, before, corner=True)
