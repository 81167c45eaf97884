"""Dense labels through the XCiT of mmpretrain; imports nothing of ours."""

import torch


def xcit_labels(backbone, images, token_labels):
    """Labels after each class attention (B, 1 + N, K), and what is read.

    Cross-covariance attention and local convolutions move no label.

    Args:
        backbone (nn.Module): An ``XCiT`` in the precision of ``images``.
        images (Tensor): (B, 3, H, W).
        token_labels (Tensor): (B, rows, cols, K).
    """
    inputs = []
    for layer in backbone.ca_layers:
        layer.attn.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    if backbone.use_pos_embed:
        # the host computes sines in float32 whatever the weights are
        backbone.pos_embed.token_projection.register_forward_pre_hook(
            lambda _, args: args[0].to(images.dtype)
        )
    backbone(images)

    patches = token_labels.flatten(1, 2)
    label = patches.mean(1)
    blocks = []
    for layer, x in zip(backbone.ca_layers, inputs, strict=True):
        labels = torch.cat([label[:, None], patches], 1)
        mixed = torch.einsum('bj,bjk->bk', _row(layer.attn, x), labels)
        label = (label + mixed) / 2
        blocks.append(torch.cat([label[:, None], patches], 1))
    read = blocks[max(backbone.out_indices) - len(backbone.xca_layers)]
    if backbone.out_type in ('cls_token', 'raw'):
        return blocks, read[:, 0]
    return blocks, read[:, 1:].mean(1)


def _row(attn, x):
    """What the class token attends to, head mean (B, 1 + N)."""
    query = attn.q(x[:, 0]).unflatten(-1, (attn.num_heads, -1))
    key = attn.k(x).unflatten(-1, (attn.num_heads, -1))
    logits = torch.einsum('bhc,bjhc->bhj', query, key)
    return (logits / key.size(-1) ** 0.5).softmax(-1).mean(1)
