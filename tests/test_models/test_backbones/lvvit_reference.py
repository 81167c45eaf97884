"""LV-ViT written anew from the paper and its published key layout.

Plain functions of a state dict; nothing of the package or of mmpretrain is
used, so that an error there cannot hide here as well.
"""

import torch
from torch.nn import functional as F


def build_state(dims, depth, stem, num_patches, num_classes, patch=16, seed=0):
    """Random weights by published key; vectors too differ from 0 and 1."""
    shapes = {'cls_token': (1, 1, dims), 'pos_embed': (1, num_patches + 1, dims)}
    channels = 3
    for i, size in enumerate((7, 3, 3), 1):
        shapes[f'patch_embed.conv{i}.weight'] = (stem, channels, size, size)
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'patch_embed.bn{i}.{name}'] = (stem,)
        shapes[f'patch_embed.bn{i}.num_batches_tracked'] = ()
        channels = stem
    shapes['patch_embed.proj.weight'] = (dims, stem, patch // 2, patch // 2)
    shapes['patch_embed.proj.bias'] = (dims,)
    for i in range(depth):
        block = f'blocks.{i}.'
        for name in ('norm1', 'norm2'):
            shapes[f'{block}{name}.weight'] = (dims,)
            shapes[f'{block}{name}.bias'] = (dims,)
        shapes[f'{block}attn.qkv.weight'] = (3 * dims, dims)
        for name, shape in (
            ('attn.proj', (dims, dims)),
            ('mlp.fc1', (3 * dims, dims)),
            ('mlp.fc2', (dims, 3 * dims)),
        ):
            shapes[f'{block}{name}.weight'] = shape
            shapes[f'{block}{name}.bias'] = shape[:1]
    shapes['norm.weight'] = shapes['norm.bias'] = (dims,)
    for name in ('head', 'aux_head'):
        shapes[f'{name}.weight'] = (num_classes, dims)
        shapes[f'{name}.bias'] = (num_classes,)
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
        mean, var, gain, bias = (
            state[f'patch_embed.bn{i}.{name}'][:, None, None]
            for name in ('running_mean', 'running_var', 'weight', 'bias')
        )
        x = ((x - mean) / (var + 1e-5).sqrt() * gain + bias).clamp(min=0)
    weight = state['patch_embed.proj.weight']
    x = F.conv2d(x, weight, state['patch_embed.proj.bias'], stride=weight.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    cls_token = state['cls_token'].expand(len(x), -1, -1)
    x = torch.cat((cls_token, x), 1) + state['pos_embed']
    i = 0
    while f'blocks.{i}.norm1.weight' in state:
        block = f'blocks.{i}.'
        y = norm(state, block + 'norm1', x)
        x = x + attend(state, block, y, num_heads) / skip_lam
        y = linear(state, block + 'mlp.fc1', norm(state, block + 'norm2', x))
        x = x + linear(state, block + 'mlp.fc2', F.gelu(y)) / skip_lam
        i += 1
    return norm(state, 'norm', x)


def attend(state, block, x, num_heads):
    """Multi-head attention of one block, with the matrix written out."""
    qkv = x @ state[block + 'attn.qkv.weight'].T
    batch, count, dims = x.shape
    out = []
    for head in range(num_heads):
        width = dims // num_heads
        query, key, value = (
            qkv[..., part * dims + head * width :][..., :width] for part in range(3)
        )
        weights = (query @ key.transpose(1, 2) / width**0.5).softmax(-1)
        out.append(weights @ value)
    return linear(state, block + 'attn.proj', torch.cat(out, -1))


def linear(state, name, x):
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']


def norm(state, name, x):
    mean = x.mean(-1, keepdim=True)
    var = x.var(-1, unbiased=False, keepdim=True)
    x = (x - mean) / (var + 1e-5).sqrt()
    return x * state[f'{name}.weight'] + state[f'{name}.bias']
