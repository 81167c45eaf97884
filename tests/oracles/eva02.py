"""Dense labels through the EVA-02 of mmpretrain; imports nothing of ours."""

import torch

from .geometry import attend, read, record, start


def eva02_labels(backbone, images, token_labels):
    """Labels after each block (B, N, K), and of what the head reads (B, K)."""
    extra = int(backbone.with_cls_token)
    grid, labels, blocks = token_labels.shape[1:3], start(token_labels, extra), []
    calls = record(backbone, images, [layer.attn for layer in backbone.layers])
    for layer, (x, *_) in zip(backbone.layers, calls):
        labels = (labels + attend(_matrix(layer.attn, x, grid, extra), labels)) / 2
        blocks.append(labels)
    return blocks, read(backbone, blocks[max(backbone.out_indices)], extra)


def _matrix(attn, x, grid, extra):
    """Attention (B, h, N, N); queries and keys of patches are rotated."""
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    query, key, _ = qkv.unbind(2)
    if attn.rope is not None:
        query, key = (_rotate(side, grid, extra, attn.rope.theta) for side in (query, key))
    logits = torch.einsum('bihc,bjhc->bhij', query, key)
    return (logits * attn.scale).softmax(-1)


def _rotate(x, grid, extra, theta):
    """Turn pairs of channels of (B, N, h, c) by their place on the grid.

    Of the c / 2 pairs the first half turns with the row, the second with the
    column; but the host lays the frequencies out twice in a row instead of
    each frequency twice, so the two channels of a pair turn differently.
    """
    half = x.size(-1) // 2
    frequencies = [theta ** (-i / half) for i in range(0, half, 2)] * 2
    out = x.clone()
    for number in range(grid[0] * grid[1]):
        row, col = divmod(number, grid[1])
        angles = torch.tensor(
            [row / grid[0] * half * f for f in frequencies]
            + [col / grid[1] * half * f for f in frequencies],
            dtype=x.dtype,
        )
        token = x[:, extra + number]
        turned = torch.empty_like(token)
        turned[..., 0::2], turned[..., 1::2] = (-token[..., 1::2], token[..., 0::2])
        out[:, extra + number] = token * angles.cos() + turned * angles.sin()
    return out
