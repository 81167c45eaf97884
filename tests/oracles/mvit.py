"""Dense labels through MViT v2 of mmpretrain, the slow way."""

import torch
from torch.nn import functional as F

from .geometry import attend, pool, record, relative_logits, split_heads


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    calls = record(backbone, images, [block.attn for block in backbone.blocks])
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    ends = dict(
        zip(
            [first - 1 for first in backbone.downscale_indices] + [len(backbone.blocks) - 1],
            range(len(backbone.blocks)),
        )
    )
    steps = []
    for i, (block, (x, hw)) in enumerate(zip(backbone.blocks, calls, strict=True)):
        assert tuple(hw) == tuple(grid)
        conv = block.attn.pool_v
        keys, key_grid = pool(labels, grid, conv.kernel_size, conv.stride, conv.padding)
        stride = block.attn.pool_q.stride[0]
        if stride > 1:  # skipped tokens are pooled by a kernel one wider
            labels, new_grid = pool(labels, grid, stride + 1, stride, (stride + 1) // 2)
        else:
            new_grid = grid
        matrix = _matrix(block.attn, x, grid, new_grid, key_grid)
        labels, grid = (labels + attend(matrix, keys)) / 2, new_grid
        steps.append(labels)
        if ends.get(i) == max(backbone.out_scales):
            output = labels.mean(1)
    return steps, output


def _matrix(attn, x, grid, query_grid, key_grid):
    """(B, h, N, M) from the weights of a ``MultiScaleAttention``."""
    query, key, _ = attn.qkv(x).chunk(3, dim=-1)
    query = _pooled(split_heads(query, attn.num_heads), grid, attn.pool_q, attn.norm_q)
    key = _pooled(split_heads(key, attn.num_heads), grid, attn.pool_k, attn.norm_k)
    logits = torch.einsum('bhic,bhjc->bhij', query, key)
    logits = logits / query.shape[-1] ** 0.5
    if attn.rel_pos_spatial:
        logits = logits + relative_logits(
            query, query_grid, key_grid, attn.rel_pos_h, attn.rel_pos_w
        )
    return logits.softmax(-1)


def _pooled(x, grid, conv, norm):
    """(B, h, N, c) through a convolution of every channel by itself."""
    maps = x.flatten(0, 1).transpose(1, 2).unflatten(2, tuple(grid))
    maps = F.conv2d(
        maps, conv.weight, stride=conv.stride, padding=conv.padding, groups=maps.shape[1]
    )
    return norm(maps.flatten(2).transpose(1, 2)).unflatten(0, x.shape[:2])
