"""Variants of shares, by what must hold of them."""

import numpy as np
import pytest
import share_variants
import torch
from mmpretrain.models import VisionTransformer

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.fixture
def seen():
    """What the layers of a ViT without biases saw, and the ViT."""
    torch.manual_seed(0)
    backbone = VisionTransformer(arch=ARCH, img_size=16, patch_size=4)
    backbone.eval()
    for name, param in backbone.named_parameters():
        torch.nn.init.normal_(param, std=0.3)
        if name.endswith('bias'):
            torch.nn.init.zeros_(param)
    layers = share_variants.watch(backbone)
    backbone(torch.randn(3, 3, 16, 16))
    return layers, backbone


@torch.no_grad()
def test_constants_complements_and_the_whole(seen):
    layers, backbone = seen
    share = torch.full((3, 17), 0.25)
    found = share_variants.propagate(layers, share, backbone)
    for name in share_variants.VARIANTS[:3]:
        torch.testing.assert_close(found[name], share[:, 0])
    share = torch.rand(3, 17)
    own, other = (share_variants.propagate(layers, s, backbone) for s in (share, 1 - share))
    for name in share_variants.VARIANTS:
        torch.testing.assert_close(own[name] + other[name], torch.ones(3))
    # without biases, all that goes in comes out
    first, second = layers
    (x, _), (y, _), (after, _) = first['ln1'], first['ln2'], second['ln1']
    query, key, value = first['qkv'][1].unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    matrix = (query @ key.mT * 16**-0.5).softmax(-1)
    parts = torch.stack([0.3 * x, 0.7 * x])
    moved = share_variants.through(first['layer'], parts, x, y, matrix, value)
    torch.testing.assert_close(moved.sum(0), after)
    torch.testing.assert_close(moved[0], 0.3 * after)


def test_the_rule():
    """The nearest to the truth, of those that follow it as well as TL-Align less .08."""
    found = dict(tlalign=(0.8, 0.2), near=(0.71, 0.1), norm=(0.73, 0.19), pairs=(0.9, 0.18))
    found = {name: np.array(values) for name, values in found.items()}
    assert share_variants.choose(found) == 'pairs'
    assert share_variants.choose(found | dict(pairs=np.array([0.73, 0.195]))) == 'norm'
