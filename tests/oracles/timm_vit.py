"""Dense labels through ViTs of timm and torchvision.

Imports nothing of the package: every attention matrix is rebuilt from the
weights and the features that blocks are given, in the type of the backbone.
"""

from torch.nn import functional as F

from .geometry import attend, record, softmax_of, split_heads, start


def timm_labels(backbone, images, token_labels):
    """Labels (B, N, K) after each block of a timm ViT, and what the head
    reads (B, K), of token labels (B, rows, cols, K)."""
    extra, blocks = backbone.num_prefix_tokens, []
    labels = start(token_labels, extra)
    for block, (x, *_) in zip(backbone.blocks, record(backbone, images, backbone.blocks)):
        labels = (labels + attend(timm_matrix(block.attn, block.norm1(x)), labels)) / 2
        blocks.append(labels)
    if hasattr(backbone, 'dist_token'):
        return blocks, labels[:, :2].mean(1)
    if backbone.global_pool == 'avg' or not extra:
        return blocks, labels[:, 0 if backbone.pool_include_prefix else extra :].mean(1)
    return blocks, labels[:, 0]


def torchvision_labels(backbone, images, token_labels):
    """The same of torchvision's ViT."""
    layers, labels, blocks = backbone.encoder.layers, start(token_labels, 1), []
    for layer, (x,) in zip(layers, record(backbone, images, layers)):
        labels = (labels + attend(packed_matrix(layer.self_attention, layer.ln_1(x)), labels)) / 2
        blocks.append(labels)
    return blocks, labels[:, 0]


def timm_matrix(attn, x):
    """Attention (B, H, N, N) of a timm ``Attention`` over x (B, N, C)."""
    query, key, _ = attn.qkv(x).chunk(3, dim=-1)
    query, key = (split_heads(z, attn.num_heads) for z in (query, key))
    query, key = attn.q_norm(query), attn.k_norm(key)
    return softmax_of(query, key, query.shape[-1] ** -0.5)


def packed_matrix(attn, x):
    """Attention (B, H, N, N) of ``nn.MultiheadAttention`` over itself."""
    query, key, _ = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    query, key = (split_heads(z, attn.num_heads) for z in (query, key))
    return softmax_of(query, key, query.shape[-1] ** -0.5)
