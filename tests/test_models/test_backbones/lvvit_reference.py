"""LV-ViT written anew from the paper and its published key layout.

Plain functions of a state dict; nothing of the package or of mmpretrain is
used, so that an error there cannot hide here as well.
"""

import math

import torch
from torch.nn import functional as F


def build_state(dims, depth, stem, num_patches, num_classes, patch=16, seed=0):
    """Random weights by published key; vectors too differ from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def vector(length):
        return 0.3 * torch.randn(length, generator=generator)

    def weight(*shape):
        return 1.5 * torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5

    def add(name, *shape):
        state[f'{name}.weight'] = weight(*shape) if shape[1:] else 1 + vector(*shape)
        state[f'{name}.bias'] = vector(shape[0])

    state = dict(cls_token=weight(1, 1, dims), pos_embed=weight(1, num_patches + 1, dims))
    for i, size in enumerate((7, 3, 3), 1):
        state[f'patch_embed.conv{i}.weight'] = weight(stem, stem if i > 1 else 3, size, size)
        add(f'patch_embed.bn{i}', stem)
        state[f'patch_embed.bn{i}.running_mean'] = vector(stem)
        state[f'patch_embed.bn{i}.running_var'] = 1 + vector(stem).abs()
        state[f'patch_embed.bn{i}.num_batches_tracked'] = torch.tensor(7)
    add('patch_embed.proj', dims, stem, patch // 2, patch // 2)
    for block in (f'blocks.{i}.' for i in range(depth)):
        add(f'{block}norm1', dims)
        add(f'{block}norm2', dims)
        state[f'{block}attn.qkv.weight'] = weight(3 * dims, dims)
        add(f'{block}attn.proj', dims, dims)
        add(f'{block}mlp.fc1', 3 * dims, dims)
        add(f'{block}mlp.fc2', dims, 3 * dims)
    add('norm', dims)
    add('head', num_classes, dims)
    add('aux_head', num_classes, dims)
    return state


def predict(state, images, num_heads, skip_lam):
    """Class scores (B, K), as published for testing."""
    score, dense = both_scores(state, images, num_heads, skip_lam)
    return score + 0.5 * dense.max(1).values


def both_scores(state, images, num_heads, skip_lam):
    """Scores of the class token (B, K) and of the patches (B, N, K)."""
    x = images
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        weight = state[f'patch_embed.conv{i}.weight']
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        names = ('running_mean', 'running_var', 'weight', 'bias')
        x = F.batch_norm(x, *(state[f'patch_embed.bn{i}.{name}'] for name in names)).relu()
    weight = state['patch_embed.proj.weight']
    x = F.conv2d(x, weight, state['patch_embed.proj.bias'], stride=weight.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat((state['cls_token'].expand(len(x), -1, -1), x), 1) + state['pos_embed']
    i = 0
    while f'blocks.{i}.norm1.weight' in state:
        block = f'blocks.{i}.'
        x = x + attend(state, block, norm(state, block + 'norm1', x), num_heads) / skip_lam
        y = linear(state, block + 'mlp.fc1', norm(state, block + 'norm2', x))
        x = x + linear(state, block + 'mlp.fc2', F.gelu(y)) / skip_lam
        i += 1
    x = norm(state, 'norm', x)
    return linear(state, 'head', x[:, 0]), linear(state, 'aux_head', x[:, 1:])


def attend(state, block, x, num_heads):
    """Multi-head attention of one block."""
    qkv = F.linear(x, state[block + 'attn.qkv.weight']).unflatten(-1, (3, num_heads, -1))
    out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
    return linear(state, block + 'attn.proj', out.transpose(1, 2).flatten(2))


def linear(state, name, x):
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'])
