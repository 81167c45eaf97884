"""Dense labels through PCPVT and SVT of mmpretrain, the slow way."""

import torch
from mmpretrain.models.backbones.twins import GlobalSubsampledAttention

from .geometry import (
    attend,
    attend_windows,
    gather,
    pool,
    record,
    reduced,
    softmax_of,
    split_heads,
    windows,
)


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    modules = [block.attn for blocks in backbone.stages for block in blocks]
    calls = iter(record(backbone, images, modules))
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    steps = []
    for i, blocks in enumerate(backbone.stages):
        if i:
            conv = backbone.patch_embeds[i].projection
            labels, grid = pool(labels, grid, conv.kernel_size, conv.stride, corner=True)
        for block in blocks:
            x, hw = next(calls)
            assert tuple(hw) == tuple(grid)
            if isinstance(block.attn, GlobalSubsampledAttention):
                mixed = _reduced(block.attn, x, labels, grid)
            else:
                tokens = windows(grid, block.attn.window_size)
                mixed = attend_windows(_local(block.attn, x, tokens, grid), labels, tokens)
            labels = (labels + mixed) / 2
            steps.append(labels)
        if i == max(backbone.out_indices):
            output = labels.mean(1)
    return steps, output


def _reduced(attn, x, labels, grid):
    """Labels mixed by attention over pooled keys."""
    sr, norm = getattr(attn, 'sr', None), getattr(attn, 'norm', None)
    keys, source = reduced(sr, norm, x, labels, grid, attn.sr_ratio)
    query = split_heads(attn.q(x), attn.num_heads)
    key = split_heads(attn.kv(source).chunk(2, dim=-1)[0], attn.num_heads)
    return attend(softmax_of(query, key, query.shape[-1] ** -0.5), keys)


def _local(attn, x, tokens, grid):
    """Matrices (B, W, h, P, P) of attention inside windows.

    The host keeps apart real and padded positions, but only where both sides
    of the map are padded: with one side alone its mask is the same
    everywhere.
    """
    x = gather(x, tokens)
    query, key, _ = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).unbind(-3)
    logits = torch.einsum('bwihc,bwjhc->bwhij', query, key) * attn.scale
    if all(side % attn.window_size for side in grid):
        is_real = tokens >= 0
        apart = is_real[:, :, None] != is_real[:, None, :]
        logits = logits - 1000.0 * apart[:, None]
    return logits.softmax(-1)
