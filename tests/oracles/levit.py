"""Dense labels through the LeViT of mmpretrain; imports nothing of ours."""

import torch

from .geometry import record, start


def levit_labels(backbone, images, token_labels):
    """Labels after each attention (B, N, K), and their mean where it is read."""
    attentions = [
        [module for module in stage.modules() if hasattr(module, 'attention_biases')]
        for stage in backbone.stages
    ]
    calls = iter(record(backbone, images, sum(attentions, [])))
    labels, side, blocks = start(token_labels), token_labels.size(1), []
    for number, stage in enumerate(attentions):
        for attn in stage:
            stride = getattr(attn, 'stride', 1)
            weights = _matrix(attn, next(calls)[0], side, stride)
            mixed = torch.einsum('bij,bjk->bik', weights, labels)
            # what subsamples is not added to anything
            labels = (labels + mixed) / 2 if stride == 1 else mixed
            side = -(-side // stride)
            blocks.append(labels)
        if number == max(backbone.out_indices):
            aligned = labels.mean(1)
    return blocks, aligned


def _matrix(attn, x, side, stride):
    """Head mean (B, M, N); queries are every ``stride``-th token."""
    keys = [(row, col) for row in range(side) for col in range(side)]
    queries = [(row, col) for row in range(0, side, stride) for col in range(0, side, stride)]
    if stride == 1:
        qkv = attn.qkv(x).unflatten(-1, (attn.num_heads, -1))
        query, key = qkv[..., : attn.key_dim], qkv[..., attn.key_dim : 2 * attn.key_dim]
    else:
        kv = attn.kv(x).unflatten(-1, (attn.num_heads, -1))
        key = kv[..., : attn.key_dim]
        chosen = x[:, [row * side + col for row, col in queries]]
        query = attn.q[1](chosen).unflatten(-1, (attn.num_heads, -1))
    logits = torch.einsum('bihc,bjhc->bhij', query, key) * attn.key_dim**-0.5
    # one bias for each distance, counted row by row
    index = torch.tensor([[abs(y - v) * side + abs(x - u) for v, u in keys] for y, x in queries])
    return (logits + attn.attention_biases[:, index]).softmax(-1).mean(1)
