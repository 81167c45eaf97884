"""Dense labels through a timm Swin transformer.

Imports nothing of the package: windows are explicit lists of positions, and
every attention matrix is rebuilt from the weights and the features that
blocks are given.

Shape letters: B samples, N tokens, K classes, W windows, P positions in one
window, h heads, C channels.
"""

import torch
from torch.nn import functional as F


def labels_of(backbone, images, token_labels):
    """Labels (B, N, K) after each block, and what the head reads (B, K)."""
    calls = inputs(backbone, images)
    labels, blocks = token_labels.flatten(1, 2), []
    height, width = token_labels.shape[1:3]
    for number, stage in enumerate(backbone.layers):
        if number:
            labels, height, width = _merge(labels, height, width)
        for block in stage.blocks:
            x = next(calls)
            assert x.shape[1:3] == (height, width)
            tokens, matrix, _ = parts(block, x)
            labels = (labels + _mix(tokens, matrix.mean(2), labels)) / 2
            blocks.append(labels)
    return blocks, labels.mean(1)


def inputs(backbone, images):
    """What every block is given (B, rows, cols, C), in order."""
    calls = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: calls.append(args[0]))
        for stage in backbone.layers
        for block in stage.blocks
    ]
    backbone(images)
    for hook in hooks:
        hook.remove()
    return iter(calls)


def parts(block, x):
    """Tokens (W, P) by number, -1 for padding, attention (B, W, h, P, P) and
    values (B, W, h, P, C / h) of a block that is given x."""
    (size, _), (shift, _) = block.window_size, block.shift_size
    attn, (height, width) = block.attn, x.shape[1:3]
    tokens, zones = _windows(height, width, size, shift)
    flat = F.pad(block.norm1(x).flatten(1, 2), (0, 0, 0, 1))
    query, key, value = (
        attn.qkv(flat[:, tokens]).unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    )
    logits = torch.einsum('bwhic,bwhjc->bwhij', query, key)
    logits = logits / query.shape[-1] ** 0.5
    places = [(row, col) for row in range(size) for col in range(size)]
    offsets = [
        [(y - v + size - 1) * (2 * size - 1) + z - u + size - 1 for v, u in places]
        for y, z in places
    ]
    bias = attn.relative_position_bias_table[torch.tensor(offsets)]
    apart = zones[:, :, None] != zones[:, None, :]
    logits = logits + bias.permute(2, 0, 1) - 100.0 * apart[:, None]
    return tokens, logits.softmax(-1), value


def _windows(height, width, size, shift):
    """Numbers and zones (W, P); timm shifts the map before it pads it."""
    padded = [-(-side // size) * size for side in (height, width)]

    def zone(position, length):
        return 0 if not shift else ((position >= length - size) + (position >= length - shift))

    tokens, zones = [], []
    for top in range(0, padded[0], size):
        for left in range(0, padded[1], size):
            cells = [
                (row, col) for row in range(top, top + size) for col in range(left, left + size)
            ]
            tokens.append(
                [
                    (row + shift) % height * width + (col + shift) % width
                    if row < height and col < width
                    else -1
                    for row, col in cells
                ]
            )
            zones.append([3 * zone(row, padded[0]) + zone(col, padded[1]) for row, col in cells])
    return torch.tensor(tokens), torch.tensor(zones)


def _mix(tokens, weights, labels):
    real = tokens >= 0
    weights = weights * real[:, None]
    weights = weights / weights.sum(-1, keepdim=True)
    shown = F.pad(labels, (0, 0, 0, 1))[:, tokens]
    mixed = torch.einsum('bwij,bwjk->bwik', weights, shown)
    out = torch.empty_like(labels)
    out[:, tokens[real]] = mixed[:, real]
    return out


def _merge(labels, height, width):
    """Mean over the real tokens of cells of two by two."""
    merged = [
        labels[
            :,
            [
                y * width + x
                for y in range(top, min(top + 2, height))
                for x in range(left, min(left + 2, width))
            ],
        ].mean(1)
        for top in range(0, height, 2)
        for left in range(0, width, 2)
    ]
    return torch.stack(merged, 1), -(-height // 2), -(-width // 2)
