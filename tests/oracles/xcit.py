"""Dense labels through the XCiT of mmpretrain; imports nothing of ours."""

import torch

from .geometry import read, record


def xcit_labels(backbone, images, token_labels):
    """Labels after each class attention (B, 1 + N, K), and what is read.

    Cross-covariance attention and local convolutions move no label.
    """
    if backbone.use_pos_embed:
        # the host computes sines in float32 whatever the weights are
        backbone.pos_embed.token_projection.register_forward_pre_hook(
            lambda _, args: args[0].to(images.dtype)
        )
    calls = record(backbone, images, [layer.attn for layer in backbone.ca_layers])

    patches = token_labels.flatten(1, 2)
    label = patches.mean(1)
    blocks = []
    for layer, (x, *_) in zip(backbone.ca_layers, calls):
        labels = torch.cat([label[:, None], patches], 1)
        mixed = torch.einsum('bj,bjk->bk', _row(layer.attn, x), labels)
        label = (label + mixed) / 2
        blocks.append(torch.cat([label[:, None], patches], 1))
    labels = blocks[max(backbone.out_indices) - len(backbone.xca_layers)]
    return blocks, read(backbone, labels, 1)


def _row(attn, x):
    """What the class token attends to, head mean (B, 1 + N)."""
    query = attn.q(x[:, 0]).unflatten(-1, (attn.num_heads, -1))
    key = attn.k(x).unflatten(-1, (attn.num_heads, -1))
    logits = torch.einsum('bhc,bjhc->bhj', query, key)
    return (logits / key.size(-1) ** 0.5).softmax(-1).mean(1)
