"""Dense labels through ViTs of timm and torchvision.

Imports nothing of the package: every attention matrix is rebuilt from the
weights and the features that blocks are given, in the type of the backbone.
"""

import torch


def timm_labels(backbone, images, token_labels):
    """Labels (B, N, K) after each block of a timm ViT, and what the head
    reads (B, K), of token labels (B, rows, cols, K)."""
    calls = _inputs(backbone, backbone.blocks, images)
    labels = start(token_labels, backbone.num_prefix_tokens)
    blocks = []
    for block, x in zip(backbone.blocks, calls, strict=True):
        weights = timm_matrix(block.attn, block.norm1(x)).mean(1)
        labels = (labels + weights @ labels) / 2
        blocks.append(labels)
    extra = backbone.num_prefix_tokens
    if hasattr(backbone, 'dist_token'):
        return blocks, labels[:, :2].mean(1)
    if backbone.global_pool == 'avg' or not extra:
        patches = labels if backbone.pool_include_prefix else labels[:, extra:]
        return blocks, patches.mean(1)
    return blocks, labels[:, 0]


def torchvision_labels(backbone, images, token_labels):
    """The same of torchvision's ViT."""
    layers = backbone.encoder.layers
    calls = _inputs(backbone, layers, images)
    labels = start(token_labels, 1)
    blocks = []
    for layer, x in zip(layers, calls, strict=True):
        weights = packed_matrix(layer.self_attention, layer.ln_1(x)).mean(1)
        labels = (labels + weights @ labels) / 2
        blocks.append(labels)
    return blocks, labels[:, 0]


def start(token_labels, num_extra_tokens):
    """Patch labels, preceded by their mean once per extra token."""
    patches = token_labels.flatten(1, 2)
    mean = patches.mean(1, keepdim=True)
    return torch.cat([mean] * num_extra_tokens + [patches], 1)


def timm_matrix(attn, x):
    """Attention (B, H, N, N) of a timm ``Attention`` over x (B, N, C)."""
    query, key, _ = attn.qkv(x).chunk(3, dim=-1)
    query, key = (_heads(z, attn.num_heads) for z in (query, key))
    query, key = attn.q_norm(query), attn.k_norm(key)
    return _softmax(query, key)


def packed_matrix(attn, x):
    """Attention (B, H, N, N) of ``nn.MultiheadAttention`` over itself."""
    size = x.shape[-1]
    bias = attn.in_proj_bias
    query, key = (
        _heads(x @ attn.in_proj_weight[part].T + bias[part], attn.num_heads)
        for part in (slice(size), slice(size, 2 * size))
    )
    return _softmax(query, key)


def _heads(x, num_heads):
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def _softmax(query, key):
    logits = torch.einsum('bhic,bhjc->bhij', query, key)
    return (logits / query.shape[-1] ** 0.5).softmax(-1)


def _inputs(backbone, blocks, images):
    """What every block is given in one forward of the backbone."""
    calls = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: calls.append(args[0])) for block in blocks
    ]
    backbone(images)
    for hook in hooks:
        hook.remove()
    return calls
