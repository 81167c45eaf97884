"""Kernels for GPUs, in Triton's interpreter, against float64."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.kernels import choice
from mmtlalign.alignment.kernels.windows import mean_heads_of_windows
from tests.test_alignment import toys
from tests.test_alignment.attention import BF16, F16, F32, assert_agrees, explicit, gap, inputs
from tests.test_alignment.checks import assert_same, gradients, loss_of

kernels = pytest.importorskip(
    'mmtlalign.alignment.kernels.triton', reason='Triton is not installed'
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not kernels.INTERPRET, reason='Triton was imported to compile'),
]

# of features and carried values; the interpreter truncates halves
TOLERANCE = {F32: 2e-6, F16: 2e-3, BF16: 3e-2}
every_dtype = pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
# batch, heads, queries, keys, width
SHAPES = [
    (1, 1, 1, 1, 8),
    (2, 3, 5, 5, 32),
    (3, 2, 50, 50, 48),
    (1, 1, 64, 64, 64),
    (1, 2, 65, 65, 80),
    (1, 1, 129, 129, 24),
    (1, 1, 197, 197, 64),
    (1, 1, 37, 37, 128),
    (1, 2, 196, 49, 64),
    (2, 2, 3, 200, 40),
]


@pytest.mark.parametrize('name', ['pass', 'flash'])
@pytest.mark.parametrize(
    'shape, dtype, scale',
    [
        *((shape, dtype, None) for shape in SHAPES for dtype in TOLERANCE),
        ((1, 2, 65, 65, 88), F32, None),
        ((2, 2, 3, 200, 40), F32, 0.2),
        ((2, 3, 65, 65, 16), BF16, None),
    ],
    ids=str,
)
def test_against_the_matrix(name, shape, dtype, scale):
    path = getattr(kernels, f'share_{name}_attention')
    tolerance = TOLERANCE[dtype]
    out = assert_agrees(path, shape, dtype, scale, tolerance, 2e-6, max(tolerance, 1e-5))
    if name == 'flash':
        assert out.transpose(1, 2).is_contiguous()
    else:
        stock = F.scaled_dot_product_attention(*inputs(shape, dtype)[:3], scale=scale)
        assert torch.equal(out, stock)


@every_dtype
def test_logsumexp_and_empty_outputs(dtype):
    query, key, value, share = inputs((2, 3, 37, 37, 40), dtype)
    deviation = share - share.mean(1, keepdim=True)
    out, lse, moved, own = kernels.share_forward(query, key, value, deviation, 0.3, True, False)
    expected = explicit(query, key, value, share, 0.3)
    assert gap(lse, expected[3]) < 2e-6 and own.numel() == 0
    out, lse, again, own = kernels.share_forward(query, key, value, deviation, 0.3, False, True)
    assert out.numel() == lse.numel() == 0
    assert torch.equal(moved, again)  # nothing depends on what is asked for


@every_dtype
def test_bias_that_masks(dtype):
    query, key, _, share = inputs((4, 2, 49, 49, 16), dtype)
    bias = torch.randn(1, 2, 49, 49) + torch.zeros(4, 1, 1, 1)
    bias[1, :, :20, 20:] = -float('inf')
    bias[2, :, 20:, :20] = -100.0
    for some in (bias, bias[:1]):
        moved = kernels.share_pass(query, key, share - share.mean(1, keepdim=True), 0.2, some)
        expected = explicit(query, key, key, share, 0.2, some.double())[1]
        assert gap(moved.mean(1) + share.mean(1, keepdim=True), expected) < 2e-6


@pytest.mark.parametrize('path', [kernels.share_pass_attention, kernels.share_flash_attention])
def test_extremes(path):
    query, key, value, share = inputs((1, 2, 70, 70, 16), F32)
    large = explicit(query * 30, key, value, share)
    _, mixed, _ = path(query * 30, key, value, share)
    assert gap(mixed, large[1]) < 2e-6 * 30
    assert torch.equal(mixed, path(query * 30, key, value, share)[1])
    # strides that no projection has
    query = torch.randn(2, 2, 32, 50).transpose(2, 3)
    key = torch.randn(2, 50, 2, 64)[..., ::2].transpose(1, 2)
    share = torch.rand(50, 2).t()
    _, mixed, carried = path(query, key, key, share, None, True)
    _, expected, own, _ = explicit(query, key, key, share)
    assert gap(mixed, expected) < 2e-6 and gap(carried, own) < 2e-6


def test_too_wide_heads_are_refused():
    tensors = inputs((1, 1, 3, 3, 136), F32)
    with pytest.raises(NotImplementedError, match='136 channels; at most'):
        kernels.share_pass_attention(*tensors)


GIVEN, ASKED = (inputs((2, 2, 9, 9, 16), F32, asked) for asked in (False, True))


@pytest.mark.parametrize(
    'name, args',
    [
        ('share_pass', (*GIVEN[:2], GIVEN[3], 0.2, torch.randn(1, 2, 9, 9))),
        ('share_forward', (*ASKED, 0.2, True, True)),
        ('share_forward', (*GIVEN, 0.2, False, True)),
        ('window_pass', (torch.randn(3, 2, 16, 16).softmax(-1), torch.rand(3, 16, 2))),
    ],
    ids=['pass', 'flash', 'carry', 'windows'],
)
def test_operators_keep_what_they_promise(name, args):
    torch.library.opcheck(getattr(kernels, name), args)


@pytest.mark.parametrize('positions, dtype', [(1, F32), (49, F32), (64, F16), (144, BF16)])
def test_windows_in_one_reading(positions, dtype):
    matrix = torch.randn(3, 4, positions, positions).softmax(-1).to(dtype)
    channels = torch.rand(3, positions, 2)
    channels[1, 5:] = 0
    found = kernels.window_pass(matrix, channels)
    expected = matrix.double().mean(1) @ channels.double()
    assert gap(found, expected) < 2e-6
    assert gap(mean_heads_of_windows(matrix, channels), expected) < 2e-6
    turned = matrix.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(kernels.window_pass(turned, channels), found)


@pytest.mark.parametrize(
    'name, propagation', [('triton', 'contribution'), ('triton_flash', 'tlalign')]
)
def test_a_traced_backbone(name, propagation, logged, monkeypatch):
    backbone, images, share = toys.vit(), toys.images(), toys.shares()
    stock = backbone(images)
    loss_of(stock).backward()
    expected = gradients(backbone)

    def run(share):
        trace = LabelTrace(backbone, propagation=propagation, record=True)
        with trace(share):
            features = backbone(images)
        return features, trace

    _, usual = run(share)
    choice._chosen.clear()
    monkeypatch.setenv('MMTLALIGN_KERNEL', name)
    features, trace = run(share)
    loss_of(features).backward()
    assert_same(features, stock)
    assert_same(gradients(backbone), expected)
    assert any(f'go through {name} ' in line for _, line in logged)
    for ours, theirs in zip(trace.block_shares, usual.block_shares):
        assert_same(ours, theirs, 2e-6)
    choice._chosen.clear()
    with torch.autocast('cpu', BF16):  # takes the features down and no share
        features, trace = run(torch.full_like(share, 0.3))
    loss_of(features).backward()
    assert trace.output_share.dtype == F32
    assert_same(trace.output_share, torch.full((len(images),), 0.3), 1e-6)


def test_compiled_and_recomputed():
    path = kernels.share_pass_attention

    def layer(x, share):
        tensors = x.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        out, mixed, _ = path(*tensors, share)
        return out.transpose(1, 2).flatten(2), mixed

    torch.manual_seed(0)
    share = torch.rand(2, 37)
    first = torch.randn(2, 37, 96)
    results = []
    for run in (
        layer,
        torch.compile(layer, backend='aot_eager', fullgraph=True),
        lambda *x: checkpoint(layer, *x, use_reentrant=False),
        lambda *x: checkpoint(layer, *x, use_reentrant=True),
    ):
        x = first.clone().requires_grad_()
        out, mixed = run(x, share)
        out.square().sum().backward()
        results.append((out.detach(), mixed, x.grad))
    for found in results[1:]:
        for ours, theirs in zip(found, results[0]):
            assert_same(ours, theirs, 1e-6)
