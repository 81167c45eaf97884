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


def deconvolve(x, weight, bias):
    """2x2, stride 2: every position writes a square of its own."""
    squares = torch.einsum('bchw,coij->bohiwj', x, weight)
    b, o, h, _, w, _ = squares.shape
    return squares.reshape(b, o, 2 * h, 2 * w) + bias.view(-1, 1, 1)


def convolve(x, weight):
    """A convolution as a sum over shifted maps."""
    out = 0
    size, margin = weight.shape[-1], weight.shape[-1] // 2
    padded = F.pad(x, [margin] * 4)
    for i in range(size):
        for j in range(size):
            shifted = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out = out + torch.einsum('bchw,oc->bohw', shifted, weight[:, :, i, j])
    return out


def norm(x, weight, bias):
    """Over channels, at each position."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt()
    return x * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def pool(x, size):
    """The maximum of squares; what is left at the border is dropped."""
    b, c, h, w = x.shape
    h, w = h // size, w // size
    x = x[:, :, : h * size, : w * size]
    return x.reshape(b, c, h, size, w, size).amax((3, 5))


def finish(x, state, first):
    """The two convolutions every level ends with."""
    for i in (first, first + 1):
        x = convolve(x, state[f'{i}.conv.weight'])
        x = norm(x, state[f'{i}.ln.weight'], state[f'{i}.ln.bias'])
    return x


def compute(neck, x):
    """The four levels of the default scales and the fifth."""
    state = [dict(level.state_dict()) for level in neck.levels]
    s = state[0]
    twice = deconvolve(x, s['0.weight'], s['0.bias'])
    twice = gelu(norm(twice, s['1.weight'], s['1.bias']))
    four_times = deconvolve(twice, s['3.weight'], s['3.bias'])
    s = state[1]
    outs = [
        finish(four_times, state[0], 4),
        finish(deconvolve(x, s['0.weight'], s['0.bias']), state[1], 1),
        finish(x, state[2], 0),
        finish(pool(x, 2), state[3], 1),
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


def test_every_parameter_learns():
    neck = build()
    outs = neck((torch.randn(1, 16, 4, 4),))
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert all(p.grad.abs().sum() > 0 for p in neck.parameters())


def test_strides_are_those_of_the_stock_alternative():
    """The maps fit the same anchors as MultiLevelNeck and FPN do."""
    pytest.importorskip('mmseg')
    pytest.importorskip('mmcv.ops')
    maps = (torch.randn(1, 16, 6, 8),)
    stock = [
        MODELS.build(cfg)
        for cfg in (
            dict(
                type='mmseg.MultiLevelNeck',
                in_channels=[16],
                out_channels=16,
                scales=[4, 2, 1, 0.5],
            ),
            dict(type='mmdet.FPN', in_channels=[16] * 4, out_channels=6, num_outs=5),
        )
    ]
    ours = MODELS.build(dict(type='mmtlalign.SimpleFeaturePyramid', in_channels=16, out_channels=6))
    expected = stock[1](stock[0](maps))
    assert [out.shape for out in ours(maps)] == [out.shape for out in expected]


@pytest.mark.parametrize(
    'scales, num_outs, sizes',
    [
        ((2, 1, 0.5), 4, [16, 8, 4, 2]),
        ((1, 0.5, 0.25, 0.125), 4, [8, 4, 2, 1]),
        ((1,), 1, [8]),
        ((0.5,), 4, [4, 2, 1, 1]),
        ((8,), 2, [64, 32]),
    ],
)
def test_other_pyramids(scales, num_outs, sizes):
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
