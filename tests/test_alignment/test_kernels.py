"""The ways to carry shares through global attention."""

import logging
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmtlalign.alignment import LabelTrace, kernels
from mmtlalign.alignment.kernels import channels, choice, fused
from tests.test_alignment import toys
from tests.test_alignment.attention import BF16, F16, F32, F64, assert_agrees, explicit, inputs
from tests.test_alignment.checks import assert_labels_follow, assert_same, loss_of

PATHS = [
    kernels.fused_share_attention,
    kernels.padded_share_attention,
    kernels.separate_share_attention,
]
all_paths = pytest.mark.parametrize('path', PATHS, ids=lambda path: path.__name__)
# of features and carried values, of shares, of gradients
TOLERANCES = {
    F64: (1e-12, 1e-6, 1e-12),
    F32: (1e-5, 2e-6, 1e-5),
    F16: (3e-2, 5e-3, 3e-2),
    BF16: (3e-2, 5e-3, 3e-2),
}


@all_paths
@pytest.mark.parametrize(
    'shape, dtype, scale',
    [
        ((2, 3, 17, 17, 16), F64, None),
        ((1, 1, 1, 1, 8), F32, None),
        ((2, 2, 5, 5, 1), F32, 0.3),
        ((1, 2, 65, 65, 88), F32, None),
        ((1, 1, 37, 37, 128), F32, None),
        ((2, 2, 3, 200, 40), F32, 0.2),
        ((2, 3, 70, 70, 24), F16, None),
        ((2, 3, 65, 65, 16), BF16, None),
    ],
    ids=str,
)
def test_kernels_agree_with_the_matrix(path, shape, dtype, scale):
    assert_agrees(path, shape, dtype, scale, *TOLERANCES[dtype])
    *tensors, share = inputs(shape, dtype)
    _, mixed, carried = path(*tensors, torch.full_like(share, 0.3), scale, True)
    assert_same(mixed, torch.full_like(mixed, 0.3), 1e-6)
    assert carried.abs().max() < 1e-6


@pytest.mark.parametrize('dtype', [F32, BF16], ids=str)
def test_what_lies_behind_the_query_in_memory_does_not_count(dtype):
    torch.manual_seed(0)
    query = torch.randn(2, 5, 3, 8).to(dtype).transpose(1, 2)
    key, value = torch.randn(2, 2, 3, 5, 8).to(dtype)
    share = torch.rand(2, 5)
    expected = kernels.fused_share_attention(query, key, value, share)
    # the same query with huge numbers behind every row but the last
    packed = torch.full((2, 5, 3, 16), 1e4, dtype=dtype).transpose(1, 2)
    packed[..., :8] = query
    shortest = packed.flatten().new_full((2 * 5 * 3 * 16 - 8,), 1e4)
    shortest = shortest.as_strided(packed.shape[:-1] + (8,), packed.stride())
    shortest.copy_(query)
    buffers = {}
    for same in (query, packed[..., :8], shortest):
        found = kernels.fused_share_attention(same, key, value, share, buffers=buffers)
        assert_same(found[0], expected[0])
        assert_same(found[1], expected[1])


def test_buffers_are_written_over_and_never_read_again():
    buffers, kept = {}, []
    for batch in (2, 2, 3, 2):  # one pair of buffers a shape
        tensors = inputs((batch, 2, 7, 7, 8), F32, True)
        kept.append((tensors, *kernels.fused_share_attention(*tensors, buffers=buffers)))
        assert len(buffers) == len({len(out) for _, out, *_ in kept})
    with torch.inference_mode():
        kernels.fused_share_attention(*tensors, buffers=buffers)
    kernels.fused_share_attention(*inputs((2, 2, 7, 7, 8), F32), carry=True, buffers=buffers)
    # what came out before is untouched, and so is what the backward needs
    for tensors, out, mixed, _ in kept:
        expected, moved, *_ = explicit(*tensors)
        assert_same(out, expected.float())
        assert_same(mixed, moved.float(), 2e-6)
        found = torch.autograd.grad(loss_of([out]), tensors[:3])
        assert_same(found, torch.autograd.grad(loss_of([expected]), tensors[:3]))
    for tokens in range(1, 3 * fused.MAX_BUFFERS):  # they do not pile up
        kernels.fused_share_attention(*inputs((1, 1, tokens, tokens, 8), F32), buffers=buffers)
        assert 0 < len(buffers) <= fused.MAX_BUFFERS


@pytest.mark.parametrize('width, wider', [(60, 64), (63, 64), (64, 72)])
def test_half_precision_fills_heads_up_to_a_multiple_of_eight(width, wider, monkeypatch):
    widen = Mock(wraps=channels.widen)
    monkeypatch.setattr(channels, 'widen', widen)
    for path in PATHS:
        path(*inputs((2, 3, 17, 17, width), BF16), None, True)
    assert {call.args[1] for call in widen.call_args_list} == {wider}


@all_paths
def test_features_under_autocast_are_those_of_the_public_function(path):
    tensors = inputs((2, 3, 65, 65, 16), F32, True)
    with torch.autocast('cpu', BF16):
        out, *_ = path(*tensors)
        expected = F.scaled_dot_product_attention(*tensors[:3])
    assert out.dtype == expected.dtype == BF16
    assert_same(out, expected, 2e-2)
    found = torch.autograd.grad(loss_of([out]), tensors[:3])
    assert_same(found, torch.autograd.grad(loss_of([expected]), tensors[:3]), 1e-4)


def chosen():
    return choice.choose_kernel(choice.default_case(torch.device('cpu'), F32))


@pytest.mark.parametrize(
    'guard', [torch.enable_grad, torch.inference_mode, partial(torch.autocast, 'cpu', BF16)]
)
def test_fused_path_is_chosen_on_the_cpu_wherever_it_is_asked(logged, guard):
    with guard():
        assert chosen() is kernels.fused_share_attention
    assert [level for level, _ in logged] == [logging.INFO]


def fail(*args, **kwargs):
    raise RuntimeError('no such operator')


def wrong(*args, forward=fused.flash_forward):
    out, *context = forward(*args)
    return out + 1, *context


@pytest.mark.parametrize(
    'name, instead, reason',
    [
        ('fused_share_attention', None, 'AttributeError'),
        ('flash_forward', fail, 'RuntimeError: no such operator'),
        ('flash_backward', fail, 'RuntimeError: no such operator'),
        ('flash_forward', wrong, 'differs from the public function by'),
    ],
    ids=['missing', 'forward', 'backward', 'wrong'],
)
def test_fallback_is_chosen_and_logged_once(logged, name, instead, reason, monkeypatch):
    if instead is None:
        monkeypatch.delattr(fused, name)
    else:
        monkeypatch.setattr(fused, name, instead)
    backbone, images = toys.vit(), toys.images()
    stock = backbone(images)
    for _ in range(2):
        features = assert_labels_follow(backbone, images, toys.shares())
        assert_same(features, stock)
    assert chosen() is kernels.padded_share_attention
    (line,) = (line for level, line in logged if level >= logging.WARNING)
    assert reason in line


@pytest.mark.parametrize(
    'path, dtype',
    [(None, BF16), *((path, F32) for path in PATHS)],
    ids=lambda x: getattr(x, '__name__', None),
)
def test_only_the_fused_backend_is_needed(path, dtype, monkeypatch):
    # the context makes PyTorch raise where it would build the matrix
    if path:
        monkeypatch.setattr(
            kernels.ShareAttention, '__call__', lambda self, *tensors: path(*tensors)
        )
    backbone = toys.vit().to(dtype)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        with LabelTrace(backbone)(toys.shares()):
            features = backbone(toys.images().to(dtype))
        loss_of(features).backward()
