"""Dense labels through pyramids, which pool keys, queries or tokens, the slow way.

What is returned is that of :func:`tests.oracle.labels_of`.
"""

import torch
from torch.nn import functional as F

from .geometry import (
    attend,
    pool,
    pyramid,
    query_key_value,
    record,
    reduced,
    relative_logits,
    softmax_of,
    split_heads,
    start,
)

# PVT, PVTv2 of mmdet and MiT of mmseg


def pvt_labels(backbone, images, token_labels):
    """Attention over pooled keys."""
    stages = [
        [block.attn for block in blocks if 'Encoder' in type(block).__name__]
        for _, blocks, _ in backbone.layers
    ]

    def mix(wrapper, x, labels, grid):
        keys, source = reduced(wrapper, x, labels, grid)
        attn, width = wrapper.attn, x.shape[-1]
        weights = attn.in_proj_weight.split(width)
        biases = (None,) * 3 if attn.in_proj_bias is None else attn.in_proj_bias.split(width)
        query = split_heads(F.linear(x, weights[0], biases[0]), attn.num_heads)
        key = split_heads(F.linear(source, weights[1], biases[1]), attn.num_heads)
        return attend(softmax_of(query, key), keys)

    def merge(number, labels, grid):
        embed = backbone.layers[number][0]
        conv, corner = embed.projection, bool(embed.adap_padding)
        return pool(labels, grid, conv.kernel_size, conv.stride, conv.padding, corner)

    return pyramid(backbone, images, token_labels, stages, mix, merge)


# MViT v2


def mvit_labels(backbone, images, token_labels):
    """Keys are pooled, and queries with the residual at the end of a stage."""
    calls = record(backbone, images, [block.attn for block in backbone.blocks])
    labels, grid, steps = start(token_labels), token_labels.shape[1:3], []
    for block, (x, _) in zip(backbone.blocks, calls, strict=True):
        conv, query_grid = block.attn.pool_v, grid
        keys, key_grid = pool(labels, grid, conv.kernel_size, conv.stride, conv.padding)
        stride = block.attn.pool_q.stride[0]
        if stride > 1:  # skipped tokens are pooled by a kernel one wider
            labels, query_grid = pool(labels, grid, stride + 1, stride, (stride + 1) // 2)
        matrix = _mvit_matrix(block.attn, x, grid, query_grid, key_grid)
        labels, grid = (labels + attend(matrix, keys)) / 2, query_grid
        steps.append(labels)
    ends = [first - 1 for first in backbone.downscale_indices] + [len(steps) - 1]
    return steps, steps[ends[max(backbone.out_scales)]].mean(1)


def _mvit_matrix(attn, x, grid, query_grid, key_grid):
    """(B, h, N, M) from the weights of a ``MultiScaleAttention``."""
    query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
    query = _pooled(query, grid, attn.pool_q, attn.norm_q)
    key = _pooled(key, grid, attn.pool_k, attn.norm_k)
    bias = 0.0
    if attn.rel_pos_spatial:
        bias = relative_logits(query, query_grid, key_grid, attn.rel_pos_h, attn.rel_pos_w)
    return softmax_of(query, key, None, bias)


def _pooled(x, grid, conv, norm):
    """(B, h, N, c) through a convolution of every channel by itself."""
    maps = x.flatten(0, 1).transpose(1, 2).unflatten(2, tuple(grid))
    maps = F.conv2d(maps, conv.weight, None, conv.stride, conv.padding, groups=maps.shape[1])
    return norm(maps.flatten(2).transpose(1, 2)).unflatten(0, x.shape[:2])


# LeViT


def levit_labels(backbone, images, token_labels):
    """What subsamples is not added to anything."""
    attentions = [
        [module for module in stage.modules() if hasattr(module, 'attention_biases')]
        for stage in backbone.stages
    ]
    calls = iter(record(backbone, images, sum(attentions, [])))
    labels, side, blocks = start(token_labels), token_labels.size(1), []
    for number, stage in enumerate(attentions):
        for attn in stage:
            stride = getattr(attn, 'stride', 1)
            mixed = attend(_levit_matrix(attn, next(calls)[0], side, stride), labels)
            labels = (labels + mixed) / 2 if stride == 1 else mixed
            side = -(-side // stride)
            blocks.append(labels)
        if number == max(backbone.out_indices):
            aligned = labels.mean(1)
    return blocks, aligned


def _levit_matrix(attn, x, side, stride):
    """(B, h, M, N); queries are every ``stride``-th token."""
    keys = [(row, col) for row in range(side) for col in range(side)]
    queries = [(row, col) for row in range(0, side, stride) for col in range(0, side, stride)]
    if stride == 1:
        packed = split_heads(attn.qkv(x), attn.num_heads)
        query, key = packed[..., : attn.key_dim], packed[..., attn.key_dim : 2 * attn.key_dim]
    else:
        key = split_heads(attn.kv(x), attn.num_heads)[..., : attn.key_dim]
        chosen = x[:, [row * side + col for row, col in queries]]
        query = split_heads(attn.q[1](chosen), attn.num_heads)
    # one bias for each distance, counted row by row
    index = torch.tensor([[abs(y - v) * side + abs(x - u) for v, u in keys] for y, x in queries])
    return softmax_of(query, key, attn.key_dim**-0.5, attn.attention_biases[:, index])


# PoolFormer


def poolformer_labels(backbone, images, token_labels):
    """That means over neighbours are what the host pools is checked on what its
    mixers are given and return."""
    calls = []
    mixers = [m for m in backbone.modules() if type(m).__name__ == 'Pooling']
    for mixer in mixers:
        mixer.register_forward_hook(lambda _, args, out: calls.append((args[0], out)))
    backbone(images)

    labels, hw, blocks, calls = start(token_labels), token_labels.shape[1:3], [], iter(calls)
    for number, stage in enumerate(backbone.network):
        if isinstance(stage, torch.nn.Sequential):
            for block in stage:
                cells = block.token_mixer.pool
                window = cells.kernel_size, 1, cells.padding
                x, less = (z.flatten(2).mT for z in next(calls))
                torch.testing.assert_close(less, pool(x, hw, *window)[0] - x)
                labels = (labels + pool(labels, hw, *window)[0]) / 2
                blocks.append(labels)
        else:
            conv = stage.proj
            labels, hw = pool(labels, hw, conv.kernel_size, conv.stride, conv.padding)
        if number == max(backbone.out_indices):
            aligned = labels.mean(1)
    return blocks, aligned
