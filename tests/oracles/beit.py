"""Dense labels through the BEiT of mmpretrain.

Matrices are rebuilt from the weights and the recorded inputs of attention;
nothing of the package is imported. Shape letters: B samples, N tokens, K
classes, h heads, C channels.
"""

import torch
from torch.nn import functional as F

from .geometry import attend, offsets, read, record, start


def beit_labels(backbone, images, token_labels):
    """Labels after each block (B, N, K), and of what the head reads (B, K)."""
    extra = int(backbone.with_cls_token)
    labels, blocks = start(token_labels, extra), []
    calls = record(backbone, images, [layer.attn for layer in backbone.layers])
    for layer, (x, *_) in zip(backbone.layers, calls):
        labels = (labels + attend(beit_matrix(backbone, layer.attn, x), labels)) / 2
        blocks.append(labels)
    return blocks, read(backbone, blocks[max(backbone.out_indices)], extra)


def beit_qkv(attn, x):
    """Query, key and value (B, N, h, C / h)."""
    if attn.bias == 'qv_bias':
        bias = torch.cat([attn.q_bias, 0 * attn.q_bias, attn.v_bias])
    else:
        bias = attn.qkv.bias
    qkv = F.linear(x, attn.qkv.weight, bias)
    return qkv.unflatten(-1, (3, attn.num_heads, -1)).unbind(2)


def beit_matrix(backbone, attn, x):
    """Attention (B, h, N, N) with its bias, or the one all layers share."""
    query, key, _ = beit_qkv(attn, x)
    logits = torch.einsum('bihc,bjhc->bhij', query, key) * attn.scale
    for owner in (attn, backbone.rel_pos_bias):
        table = getattr(owner, 'relative_position_bias_table', None)
        if table is not None:
            index = _offsets(*owner.window_size)
            logits = logits + table[index].permute(2, 0, 1)
    return logits.softmax(-1)


def _offsets(rows, cols):
    """The last three rows of the table are for the class token: it to patches,
    patches to it, it to itself."""
    last = (2 * rows - 1) * (2 * cols - 1)
    index = F.pad(offsets(rows, cols), (1, 0, 1, 0), value=last)
    index[1:, 0] = last + 1
    index[0, 0] = last + 2
    return index
