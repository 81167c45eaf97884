"""LV-ViT written anew from the paper and its published key layout.

Plain functions of a state dict; nothing of the package or of mmpretrain is
used, so that an error there cannot hide here as well.
"""

import torch
from torch.nn import functional as F


def build_state(dims, depth, stem, num_patches, num_classes, patch=16, seed=0):
    """Random weights by published key; vectors too differ from 0 and 1."""
    shapes = {'cls_token': (1, 1, dims), 'pos_embed': (1, num_patches + 1, dims)}

    def add(name, *weight):
        shapes.update({f'{name}.weight': weight, f'{name}.bias': weight[:1]})

    channels = 3
    for i, size in enumerate((7, 3, 3), 1):
        shapes[f'patch_embed.conv{i}.weight'] = (stem, channels, size, size)
        add(f'patch_embed.bn{i}', stem)
        for name in ('running_mean', 'running_var'):
            shapes[f'patch_embed.bn{i}.{name}'] = (stem,)
        shapes[f'patch_embed.bn{i}.num_batches_tracked'] = ()
        channels = stem
    add('patch_embed.proj', dims, stem, patch // 2, patch // 2)
    for block in (f'blocks.{i}.' for i in range(depth)):
        add(f'{block}norm1', dims)
        add(f'{block}norm2', dims)
        shapes[f'{block}attn.qkv.weight'] = (3 * dims, dims)
        add(f'{block}attn.proj', dims, dims)
        add(f'{block}mlp.fc1', 3 * dims, dims)
        add(f'{block}mlp.fc2', dims, 3 * dims)
    add('norm', dims)
    add('head', num_classes, dims)
    add('aux_head', num_classes, dims)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            value = value / value[0].numel() ** 0.5 * 1.5
        elif key.endswith('running_var'):
            value = 1 + value.abs()
        elif not shape:
            value = torch.tensor(7)
        else:
            value = 0.3 * value + key.endswith('weight')
        state[key] = value
    return state


def predict(state, images, num_heads, skip_lam):
    """Class scores (B, K), as published for testing."""
    score, dense = both_scores(state, images, num_heads, skip_lam)
    return score + 0.5 * dense.max(1).values


def both_scores(state, images, num_heads, skip_lam):
    """Scores of the class token (B, K) and of the patches (B, N, K)."""
    x = tokens_out(state, images, num_heads, skip_lam)
    return linear(state, 'head', x[:, 0]), linear(state, 'aux_head', x[:, 1:])


def tokens_out(state, images, num_heads, skip_lam):
    """All tokens after the final norm (B, 1 + N, C)."""
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
    return norm(state, 'norm', x)


def attend(state, block, x, num_heads):
    """Multi-head attention of one block."""
    qkv = F.linear(x, state[block + 'attn.qkv.weight']).unflatten(-1, (3, num_heads, -1))
    out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
    return linear(state, block + 'attn.proj', out.transpose(1, 2).flatten(2))


def linear(state, name, x):
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'])
