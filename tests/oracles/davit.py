"""Dense labels through DaViT of mmpretrain, the slow way."""

import torch

from .geometry import attend_windows, gather, pool, record, windows


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    stages = [[block.spatial_block.attn for block in stage.blocks] for stage in backbone.stages]
    calls = iter(record(backbone, images, sum(stages, [])))
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    steps = []
    for i, attns in enumerate(stages):
        for attn in attns:
            x, hw = next(calls)
            assert tuple(hw) == tuple(grid)
            tokens = windows(grid, attn.window_size)
            mixed = attend_windows(_matrix(attn.w_msa, gather(x, tokens)), labels, tokens)
            labels = (labels + mixed) / 2
            steps.append(labels)
        if i == max(backbone.out_indices):
            output = labels.mean(1)
        if i < len(stages) - 1:
            conv = backbone.stages[i].downsample.projection
            labels, grid = pool(labels, grid, conv.kernel_size, conv.stride, conv.padding)
    return steps, output


def _matrix(w_msa, x):
    """(B, W, h, P, P) of attention inside windows, padding included."""
    query, key, _ = w_msa.qkv(x).unflatten(-1, (3, w_msa.num_heads, -1)).unbind(-3)
    logits = torch.einsum('bwihc,bwjhc->bwhij', query, key)
    return (logits * w_msa.scale).softmax(-1)
