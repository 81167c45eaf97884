"""Dense labels through transformers with windows, the slow way: windows are explicit lists of
positions, matrices are rebuilt from the weights.

Of mmpretrain but for timm's Swin; what is returned is that of :func:`tests.oracle.labels_of`.
Shape letters: B samples, N tokens, K classes, W windows, P positions in one window, h heads, C
channels.
"""

import torch
from torch.nn import functional as F

from .geometry import (
    attend,
    attend_windows,
    gather,
    offsets,
    pool,
    pyramid,
    query_key_value,
    reduced,
    relative_logits,
    shifted_windows,
    softmax_of,
    split_heads,
    start,
    walk,
    windows,
)

# Swin


def swin_labels(backbone, images, token_labels):
    """First or second version."""
    stages = [[block.attn for block in stage.blocks] for stage in backbone.stages]
    merges_first = type(backbone).__name__ == 'SwinTransformerV2'

    def merge(number, labels, grid):
        stage = backbone.stages[number if merges_first else number - 1]
        return _merge(stage.downsample, labels, grid)

    def mix(attn, x, labels, grid):
        tokens, zones = windows_of(attn, grid)
        return attend_windows(
            window_attention(attn.w_msa, gather(x, tokens), zones), labels, tokens
        )

    grid = token_labels.shape[1:3]
    steps, ends = walk(backbone, images, start(token_labels), grid, stages, mix, merge)
    last = max(backbone.out_indices)
    output, grid = ends[last]
    if getattr(backbone, 'out_after_downsample', False) and last + 1 < len(stages):
        output, _ = merge(last + 1, output, grid)
    return steps, output.mean(1)


def windows_of(attn, hw):
    """Numbers and zones of the positions in the windows of a ``ShiftWindowMSA``."""
    shift = attn.shift_size
    if min(hw) == attn.window_size and not attn.pad_small_map:
        shift = 0
    return shifted_windows(hw, attn.window_size, shift)


def window_attention(w_msa, x, zones):
    """Matrix (B, W, h, P, P) of a window attention."""
    heads, is_v2 = w_msa.num_heads, hasattr(w_msa, 'logit_scale')
    if is_v2:
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
    query, key, _ = query_key_value(qkv, heads)
    if is_v2:
        # cosine attention; the temperature is bounded by 100
        query = query / query.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        key = key / key.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        scale = w_msa.logit_scale.exp().clamp(max=100.0)
    else:
        scale = w_msa.scale
    bias = table[offsets(*w_msa.window_size)].permute(2, 0, 1)
    return softmax_of(query, key, scale, bias - 100.0 * _apart(zones))


def _apart(zones):
    """(W, 1, P, P): which positions belong to other zones (W, P) than others."""
    return (zones[:, :, None] != zones[:, None, :])[:, None]


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


# timm's Swin


def timm_swin_labels(backbone, images, token_labels):
    """Inputs of blocks are recorded."""
    stages = [list(stage.blocks) for stage in backbone.layers]

    def mix(block, x, labels, grid):
        tokens, matrix, _ = timm_swin_parts(block, x)
        return attend_windows(matrix, labels, tokens)

    def merge(number, labels, grid):
        return pool(labels, grid, 2, 2, corner=True)

    return pyramid(backbone, images, token_labels, stages, mix, merge)


def timm_swin_parts(block, x):
    """Tokens (W, P) by number, -1 for padding, attention (B, W, h, P, P) and
    values (B, W, h, P, C / h) of a block that is given x."""
    (size, _), (shift, _) = block.window_size, block.shift_size
    attn = block.attn
    tokens, zones = shifted_windows(x.shape[1:3], size, shift, pads_first=False)
    shown = gather(block.norm1(x).flatten(1, 2), tokens)
    query, key, value = query_key_value(attn.qkv(shown), attn.num_heads)
    bias = attn.relative_position_bias_table[offsets(size, size)].permute(2, 0, 1)
    return tokens, softmax_of(query, key, None, bias - 100.0 * _apart(zones)), value


# DaViT


def davit_labels(backbone, images, token_labels):
    """Padding takes part in the matrices, and is not masked."""
    stages = [[block.spatial_block.attn for block in stage.blocks] for stage in backbone.stages]

    def mix(attn, x, labels, grid):
        tokens, w_msa = windows(grid, attn.window_size), attn.w_msa
        query, key, _ = query_key_value(w_msa.qkv(gather(x, tokens)), w_msa.num_heads)
        return attend_windows(softmax_of(query, key, w_msa.scale), labels, tokens)

    def merge(number, labels, grid):
        conv = backbone.stages[number - 1].downsample.projection
        return pool(labels, grid, conv.kernel_size, conv.stride, conv.padding)

    return pyramid(backbone, images, token_labels, stages, mix, merge)


# ViTSAM


def sam_labels(backbone, images, token_labels):
    """Inputs of blocks are recorded."""

    def mix(layer, x, labels, grid):
        x, size = layer.ln1(x).flatten(1, 2), layer.window_size
        if not size:
            return attend(_sam_matrix(layer.attn, x, grid), labels)
        tokens = windows(grid, size)
        matrix = _sam_matrix(layer.attn, gather(x, tokens), (size, size))
        return attend_windows(matrix, labels, tokens)

    grid, stages = token_labels.shape[1:3], [list(backbone.layers)]
    steps, _ = walk(backbone, images, start(token_labels), grid, stages, mix)
    return steps, steps[max(backbone.out_indices)].mean(1)


def _sam_matrix(attn, x, grid):
    """(..., h, N, N) of tokens (..., N, C) on a grid."""
    query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
    bias = 0.0
    if attn.use_rel_pos:
        bias = relative_logits(query, grid, grid, attn.rel_pos_h, attn.rel_pos_w)
    return softmax_of(query, key, None, bias)


# PCPVT and SVT


def twins_labels(backbone, images, token_labels):
    """Attention over pooled keys, or inside windows."""
    stages = [[block.attn for block in blocks] for blocks in backbone.stages]

    def mix(attn, x, labels, grid):
        if hasattr(attn, 'window_size'):
            tokens = windows(grid, attn.window_size)
            return attend_windows(_local_matrix(attn, x, tokens, grid), labels, tokens)
        keys, source = reduced(attn, x, labels, grid)
        query = split_heads(attn.q(x), attn.num_heads)
        key = split_heads(attn.kv(source).chunk(2, dim=-1)[0], attn.num_heads)
        return attend(softmax_of(query, key), keys)

    def merge(number, labels, grid):
        conv = backbone.patch_embeds[number].projection
        return pool(labels, grid, conv.kernel_size, conv.stride, corner=True)

    return pyramid(backbone, images, token_labels, stages, mix, merge)


def _local_matrix(attn, x, tokens, grid):
    """Matrices (B, W, h, P, P) of attention inside windows.

    The host keeps apart real and padded positions, but only where both sides
    of the map are padded: with one side alone its mask is the same
    everywhere.
    """
    query, key, _ = query_key_value(attn.qkv(gather(x, tokens)), attn.num_heads)
    bias = 0.0
    if all(side % attn.window_size for side in grid):
        bias = -1000.0 * _apart(tokens >= 0)
    return softmax_of(query, key, attn.scale, bias)
