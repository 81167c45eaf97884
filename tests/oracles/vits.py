"""Dense labels through transformers in which every block mixes all tokens, the slow way.

Of mmpretrain but for the last; matrices are rebuilt from the weights. All return labels after
each block (B, N, K), and of what the head reads (B, K); see :func:`tests.oracle.labels_of`.
"""

import copy
from functools import partial

import torch
from torch.nn import functional as F

from .geometry import (
    attend,
    offsets,
    pool,
    query_key_value,
    read,
    softmax_of,
    split_heads,
    start,
    walk,
)


def flat_labels(backbone, images, token_labels, modules, matrix, extra=0):
    """Labels after each of the ``modules`` alone; ``matrix(module, x)``."""

    def mix(module, x, labels, grid):
        return attend(matrix(module, x), labels)

    return walk(backbone, images, start(token_labels, extra), None, [modules], mix)[0]


def vit_labels(backbone, images, token_labels, matrix=None):
    """ViT, DeiT and what lays its tokens out alike, with a ``matrix(backbone, attn, x, grid)`` of
    its own."""
    extra, grid = backbone.num_extra_tokens, token_labels.shape[1:3]

    def of_layer(attn, x):
        return matrix(backbone, attn, x, grid) if matrix else global_attention(attn, x)

    modules = [layer.attn for layer in backbone.layers]
    blocks = flat_labels(backbone, images, token_labels, modules, of_layer, extra)
    return blocks, read(backbone, blocks[max(backbone.out_indices)], extra)


def global_attention(attn, x):
    """Matrix (B, h, N, N) of a ``MultiheadAttention``, or of another with its names."""
    return softmax_of(*query_key_value(attn.qkv(x), attn.num_heads)[:2])


# BEiT


def beit_qkv(attn, x):
    """Query, key and value (B, h, N, C / h)."""
    if attn.bias == 'qv_bias':
        bias = torch.cat([attn.q_bias, 0 * attn.q_bias, attn.v_bias])
    else:
        bias = attn.qkv.bias
    return query_key_value(F.linear(x, attn.qkv.weight, bias), attn.num_heads)


def beit_matrix(backbone, attn, x, grid=None):
    """Attention (B, h, N, N) with its bias, or the one all layers share."""
    query, key, _ = beit_qkv(attn, x)
    bias = 0.0
    for owner in (attn, backbone.rel_pos_bias):
        table = getattr(owner, 'relative_position_bias_table', None)
        if table is not None:
            bias = bias + table[_with_class_token(*owner.window_size)].permute(2, 0, 1)
    return softmax_of(query, key, attn.scale, bias)


def _with_class_token(rows, cols):
    """The last three rows of the table are for the class token: it to patches,
    patches to it, it to itself."""
    last = (2 * rows - 1) * (2 * cols - 1)
    index = F.pad(offsets(rows, cols), (1, 0, 1, 0), value=last)
    index[1:, 0] = last + 1
    index[0, 0] = last + 2
    return index


beit_labels = partial(vit_labels, matrix=beit_matrix)

# EVA-02


def _eva02_matrix(backbone, attn, x, grid):
    """Queries and keys of patches are rotated."""
    query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
    if attn.rope is not None:
        query, key = (_rotate(side, grid, attn.rope.theta) for side in (query, key))
    return softmax_of(query, key, attn.scale)


def _rotate(x, grid, theta):
    """Turn pairs of channels of (B, h, N, c) by their place on the grid.

    Of the c / 2 pairs the first half turns with the row, the second with the
    column; but the host lays the frequencies out twice in a row instead of
    each frequency twice, so the two channels of a pair turn differently.
    """
    half = x.size(-1) // 2
    frequencies = [theta ** (-i / half) for i in range(0, half, 2)] * 2
    out = x.clone()
    extra = x.size(2) - grid[0] * grid[1]
    for number in range(grid[0] * grid[1]):
        row, col = divmod(number, grid[1])
        angles = torch.tensor(
            [row / grid[0] * half * f for f in frequencies]
            + [col / grid[1] * half * f for f in frequencies],
            dtype=x.dtype,
        )
        token = x[:, :, extra + number]
        turned = torch.stack((-token[..., 1::2], token[..., 0::2]), -1).flatten(-2)
        out[:, :, extra + number] = token * angles.cos() + turned * angles.sin()
    return out


eva02_labels = partial(vit_labels, matrix=_eva02_matrix)

# HiViT


def hivit_labels(backbone, images, token_labels):
    """Before the main stage no module may see two patches at once, which is
    checked by changing one patch."""
    main = [block.attn for block in backbone.blocks[-backbone.num_main_blocks :]]
    stem = backbone.patch_embed.proj
    if stem.stride == stem.kernel_size:
        _assert_apart(backbone, images)

    def matrix(attn, x):
        query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
        bias = 0.0
        if backbone.rpe:
            index = offsets(attn.input_size, attn.input_size)
            bias = attn.relative_position_bias_table[index].permute(2, 0, 1)
        return softmax_of(query, key, attn.scale, bias)

    blocks = flat_labels(backbone, images, token_labels, main, matrix)
    return blocks, blocks[-1].mean(1)


def _assert_apart(backbone, images):
    """The top left patch reaches its own token only."""

    backbone = copy.deepcopy(backbone)
    backbone.eval()  # returns None in the host

    def tokens(images):
        x = backbone.patch_embed(images)
        for block in backbone.blocks[: -backbone.num_main_blocks]:
            x = block(x)
        return x.flatten(2)

    changed = images.clone()
    changed[..., : backbone.patch_size, : backbone.patch_size] += 1
    differs = (tokens(changed) != tokens(images)).any(2)
    assert differs[:, 0].all() and not differs[:, 1:].any()


# T2T-ViT


def t2t_labels(backbone, images, token_labels):
    """Two layers that mix tokens before they are merged, then a ViT."""
    module, extra = backbone.tokens_to_token, backbone.num_extra_tokens
    stages = [[module.attention1.attn], [module.attention2.attn]]
    stages.append([layer.attn for layer in backbone.encoder])

    def merge(number, labels, grid):
        # kernel 3, stride 2, padding 1, as the paper has it
        labels, grid = pool(labels, grid, 3, 2, 1)
        return start(labels[:, None], extra if number == 2 else 0), grid

    def mix(attn, x, labels, grid):
        # The host divides logits by one over the root of the width of a head, whatever
        # ``qk_scale`` says.
        query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
        return attend(softmax_of(query, key, (attn.embed_dims // attn.num_heads) ** 0.5), labels)

    grid = token_labels.shape[1:3]
    steps, _ = walk(backbone, images, start(token_labels), grid, stages, mix, merge)
    return steps[2:], read(backbone, steps[2:][max(backbone.out_indices)], extra)


# XCiT


def xcit_labels(backbone, images, token_labels):
    """After each class attention; cross-covariance attention and local convolutions move no label,
    and patches attend to nothing."""
    if backbone.use_pos_embed:
        # the host computes sines in float32 whatever the weights are
        backbone.pos_embed.token_projection.register_forward_pre_hook(
            lambda _, args: args[0].to(images.dtype)
        )

    def mix(attn, x, labels, grid):
        query = split_heads(attn.q(x[:, :1]), attn.num_heads)
        mixed = attend(softmax_of(query, split_heads(attn.k(x), attn.num_heads)), labels)
        return torch.cat([mixed, labels[:, 1:]], 1)

    attns = [layer.attn for layer in backbone.ca_layers]
    blocks, _ = walk(backbone, images, start(token_labels, 1), None, [attns], mix)
    labels = blocks[max(backbone.out_indices) - len(backbone.xca_layers)]
    return blocks, read(backbone, labels, 1)


# timm and torchvision


def timm_labels(backbone, images, token_labels):
    """A timm ViT."""
    extra, layers = backbone.num_prefix_tokens, list(backbone.blocks)

    def matrix(block, x):
        return timm_matrix(block.attn, block.norm1(x))

    blocks = flat_labels(backbone, images, token_labels, layers, matrix, extra)
    if hasattr(backbone, 'dist_token'):
        return blocks, blocks[-1][:, :2].mean(1)
    if backbone.global_pool == 'avg' or not extra:
        return blocks, blocks[-1][:, 0 if backbone.pool_include_prefix else extra :].mean(1)
    return blocks, blocks[-1][:, 0]


def torchvision_labels(backbone, images, token_labels):
    """torchvision's ViT."""

    def matrix(layer, x):
        return packed_matrix(layer.self_attention, layer.ln_1(x))

    layers = list(backbone.encoder.layers)
    blocks = flat_labels(backbone, images, token_labels, layers, matrix, 1)
    return blocks, blocks[-1][:, 0]


def timm_matrix(attn, x):
    """Attention (B, h, N, N) of a timm ``Attention`` over x (B, N, C)."""
    query, key, _ = query_key_value(attn.qkv(x), attn.num_heads)
    return softmax_of(attn.q_norm(query), attn.k_norm(key))


def packed_matrix(attn, x):
    """Attention (B, h, N, N) of ``nn.MultiheadAttention`` over itself."""
    packed = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
    return softmax_of(*query_key_value(packed, attn.num_heads)[:2])
