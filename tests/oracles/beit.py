"""Dense labels through the BEiT of mmpretrain.

Matrices are rebuilt from the weights and the recorded inputs of attention;
nothing of the package is imported. Shape letters: B samples, N tokens, K
classes, h heads, C channels.
"""

import torch
from torch.nn import functional as F


def beit_labels(backbone, images, token_labels):
    """Labels after each block (B, N, K), and of what the head reads (B, K).

    Args:
        backbone (nn.Module): A ``BEiTViT`` in the precision of ``images``.
        images (Tensor): (B, 3, H, W).
        token_labels (Tensor): (B, rows, cols, K).
    """
    extra = int(backbone.with_cls_token)
    patches = token_labels.flatten(1, 2)
    labels = torch.cat([patches.mean(1, keepdim=True)] * extra + [patches], 1)
    blocks = []
    for layer, x in zip(backbone.layers, _record(backbone, images)):
        weights = beit_matrix(backbone, layer.attn, x).mean(1)
        labels = (labels + torch.einsum('bij,bjk->bik', weights, labels)) / 2
        blocks.append(labels)
    read = blocks[max(backbone.out_indices)]
    if extra and backbone.out_type in ('cls_token', 'raw'):
        return blocks, read[:, 0]
    return blocks, read[:, extra:].mean(1)


def _record(backbone, images):
    """What the attention of each layer was given."""
    inputs = []
    handles = [
        layer.attn.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        for layer in backbone.layers
    ]
    backbone(images)
    for handle in handles:
        handle.remove()
    return inputs


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
    """Row of the table for each pair; its last three are for the class
    token: it to patches, patches to it, it to itself."""
    places = [(y, x) for y in range(rows) for x in range(cols)]
    to_patch, to_class, self_ = ((2 * rows - 1) * (2 * cols - 1) + i for i in range(3))
    index = [[self_] + [to_patch] * len(places)]
    for y, x in places:
        index.append(
            [to_class] + [(y - v + rows - 1) * (2 * cols - 1) + x - u + cols - 1 for v, u in places]
        )
    return torch.tensor(index)
