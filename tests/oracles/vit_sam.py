"""Dense labels through ViTSAM of mmpretrain, the slow way."""

import torch

from .geometry import attend, attend_windows, gather, record, relative_logits, windows


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    calls = record(backbone, images, backbone.layers)
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    steps = []
    for layer, (x,) in zip(backbone.layers, calls, strict=True):
        x = layer.ln1(x).flatten(1, 2)
        size = layer.window_size
        if size:
            tokens = windows(grid, size)
            matrix = _matrix(layer.attn, gather(x, tokens), (size, size))
            mixed = attend_windows(matrix, labels, tokens)
        else:
            mixed = attend(_matrix(layer.attn, x, grid), labels)
        labels = (labels + mixed) / 2
        steps.append(labels)
    return steps, steps[max(backbone.out_indices)].mean(1)


def _matrix(attn, x, grid):
    """(..., h, N, N) of tokens (..., N, C) on a grid."""
    query, key, _ = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).transpose(-4, -2).unbind(-3)
    logits = torch.einsum('...ic,...jc->...ij', query, key)
    logits = logits / query.shape[-1] ** 0.5
    if attn.use_rel_pos:
        logits = logits + relative_logits(query, grid, grid, attn.rel_pos_h, attn.rel_pos_w)
    return logits.softmax(-1)
