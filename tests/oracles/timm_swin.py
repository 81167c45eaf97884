"""Dense labels through a timm Swin transformer.

Imports nothing of the package: windows are explicit lists of positions, and
every attention matrix is rebuilt from the weights and the features that
blocks are given.

Shape letters: B samples, N tokens, K classes, W windows, P positions in one
window, h heads, C channels.
"""

import torch

from .geometry import attend_windows, gather, offsets, pool, record, shifted_windows, start


def labels_of(backbone, images, token_labels):
    """Labels (B, N, K) after each block, and what the head reads (B, K)."""
    stages = [list(stage.blocks) for stage in backbone.layers]
    calls = iter(record(backbone, images, sum(stages, [])))
    labels, grid, steps = start(token_labels), token_labels.shape[1:3], []
    for number, blocks in enumerate(stages):
        if number:
            labels, grid = pool(labels, grid, 2, 2, corner=True)
        for block in blocks:
            (x, *_) = next(calls)
            assert x.shape[1:3] == grid
            tokens, matrix, _ = parts(block, x)
            labels = (labels + attend_windows(matrix, labels, tokens)) / 2
            steps.append(labels)
    return steps, labels.mean(1)


def parts(block, x):
    """Tokens (W, P) by number, -1 for padding, attention (B, W, h, P, P) and
    values (B, W, h, P, C / h) of a block that is given x."""
    (size, _), (shift, _) = block.window_size, block.shift_size
    attn = block.attn
    tokens, zones = shifted_windows(x.shape[1:3], size, shift, pads_first=False)
    shown = gather(block.norm1(x).flatten(1, 2), tokens)
    query, key, value = (
        attn.qkv(shown).unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    )
    logits = torch.einsum('bwhic,bwhjc->bwhij', query, key)
    logits = logits / query.shape[-1] ** 0.5
    bias = attn.relative_position_bias_table[offsets(size, size)]
    apart = zones[:, :, None] != zones[:, None, :]
    logits = logits + bias.permute(2, 0, 1) - 100.0 * apart[:, None]
    return tokens, logits.softmax(-1), value
