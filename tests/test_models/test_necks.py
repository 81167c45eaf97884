"""Necks: the feature pyramid against an independent computation, and pooling."""

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from mmtlalign.models.necks import SimpleFeaturePyramid


def build(**options):
    """A pyramid all of whose parameters are random, norms included."""
    neck = SimpleFeaturePyramid(**{'in_channels': 16, 'out_channels': 6, **options})
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.normal_()
    return neck


def norm(x, weight, bias):
    """Over channels, at each position."""
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, eps=1e-5).movedim(-1, 1)


def finish(x, state, first):
    """The two convolutions every level ends with."""
    for i in (first, first + 1):
        weight = state[f'{i}.conv.weight']
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        x = norm(x, state[f'{i}.ln.weight'], state[f'{i}.ln.bias'])
    return x


def compute(neck, x):
    """The four levels of the default scales and the fifth."""
    state = [dict(level.state_dict()) for level in neck.levels]
    s = state[0]
    twice = F.conv_transpose2d(x, s['0.weight'], s['0.bias'], stride=2)
    twice = F.gelu(norm(twice, s['1.weight'], s['1.bias']))
    four_times = F.conv_transpose2d(twice, s['3.weight'], s['3.bias'], stride=2)
    s = state[1]
    outs = [
        finish(four_times, state[0], 4),
        finish(F.conv_transpose2d(x, s['0.weight'], s['0.bias'], stride=2), state[1], 1),
        finish(x, state[2], 0),
        finish(F.max_pool2d(x, 2), state[3], 1),
    ]
    return outs + [outs[-1][:, :, ::2, ::2]]


@pytest.mark.parametrize('size', [(4, 6), (5, 7)])
def test_equals_an_independent_computation(size):
    neck = build().double()
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    with torch.no_grad():
        outs = neck((torch.randn_like(x), x))  # the last map counts
        expected = compute(neck, x)
    assert len(outs) == len(expected) == 5
    for out, value in zip(outs, expected):
        torch.testing.assert_close(out, value, rtol=1e-9, atol=1e-9)
    sum((out * torch.randn_like(out)).sum() for out in neck((x,))).backward()
    assert all(p.grad.abs().sum() > 0 for p in neck.parameters())


def test_other_pyramids():
    for scales, num_outs, sizes in (
        ((1, 0.5, 0.25, 0.125), 4, [8, 4, 2, 1]),
        ((1,), 1, [8]),
        ((0.5,), 4, [4, 2, 1, 1]),
        ((8,), 2, [64, 32]),
    ):
        outs = build(scales=scales, num_outs=num_outs)((torch.randn(1, 16, 8, 8),))
        assert [out.shape for out in outs] == [(1, 6, n, n) for n in sizes]


@pytest.mark.parametrize(
    'options, complaint',
    [
        (dict(scales=(3, 1)), 'powers of two, got 3'),
        (dict(scales=(1, 0)), 'powers of two, got 0'),
        (dict(scales=(1, 2)), r'must descend.*\(1, 2\)'),
        (dict(scales=(1, 1)), r'must descend.*\(1, 1\)'),
        (dict(in_channels=10), 'multiple of the finest scale, 4, got 10'),
        (dict(num_outs=3), 'at least the number of scales, 4, got 3'),
    ],
)
def test_what_cannot_be_built_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(**options)


def test_mean_of_the_last_map_of_a_list():
    neck = MODELS.build(dict(type='mmtlalign.LastMapPooling'))
    last = torch.arange(24.0).view(2, 3, 2, 2)
    (pooled,) = neck([torch.full((2, 5, 4, 4), torch.nan), last])
    # each channel holds four numbers in a row
    assert pooled.tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
