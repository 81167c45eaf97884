"""The ways to carry shares through global attention."""

import functools
import logging

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from mmtlalign.alignment import LabelTrace, kernels
from mmtlalign.alignment.kernels import channels, choice, fused
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_labels_follow, assert_same, gradients, loss_of

PATHS = [
    kernels.fused_share_attention,
    kernels.padded_share_attention,
    kernels.separate_share_attention,
]
CPU = torch.device('cpu')
all_paths = pytest.mark.parametrize('path', PATHS, ids=lambda path: path.__name__)


def projections(batch, heads, tokens, width, dtype=torch.float32):
    """Query, key and value in the layout that mmpretrain hands over."""
    qkv = torch.randn(batch, tokens, 3, heads, width, dtype=torch.float64)
    qkv = qkv.to(dtype).requires_grad_()
    return qkv, qkv.permute(2, 0, 3, 1, 4).unbind()


def results(path, shape, dtype=torch.float32):
    """Features, moved shares and the gradient of the projections."""
    torch.manual_seed(0)
    qkv, (query, key, value) = projections(*shape, dtype)
    share = torch.rand(shape[0], shape[2])
    out, mixed, _ = path(query, key, value, share)
    loss_of([out]).backward()
    return out, mixed, qkv.grad


def explicit(query, key, value, share):
    """The matrix written out."""
    weights = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    weights = weights.softmax(-1)
    mixed = weights.detach().mean(1) @ share.to(weights)[..., None]
    return weights @ value, mixed[..., 0], None


@all_paths
@pytest.mark.parametrize(
    'shape', [(2, 3, 17, 16), (1, 1, 1, 8), (2, 2, 197, 64), (1, 2, 33, 88), (2, 2, 5, 1)], ids=str
)
def test_paths_agree_with_the_matrix(path, shape):
    out, mixed, grad = results(path, shape)
    expected = results(explicit, shape)
    assert_same(out, expected[0])
    assert_same(mixed, expected[1], 2e-6)
    assert_same(grad, expected[2])
    assert mixed.dtype == torch.float32 and not mixed.requires_grad


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
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
        torch.manual_seed(len(kept))
        qkv, (query, key, value) = projections(batch, 2, 7, 8)
        share = torch.rand(batch, 7)
        out, mixed, _ = kernels.fused_share_attention(query, key, value, share, buffers=buffers)
        kept.append((out, mixed, qkv, share))
        assert len(buffers) == len({len(x[0]) for x in kept})
    with torch.inference_mode():
        kernels.fused_share_attention(query, key, value, share, buffers=buffers)
    kernels.fused_share_attention(query, key, value, share, buffers=buffers)
    # what came out before is untouched, and so is what the backward needs
    for out, mixed, qkv, share in kept:
        same = qkv.detach().clone().requires_grad_()
        expected = explicit(*same.permute(2, 0, 3, 1, 4).unbind(), share)
        assert_same(out, expected[0])
        assert_same(mixed, expected[1], 2e-6)
        loss_of([out]).backward()
        loss_of([expected[0]]).backward()
        assert_same(qkv.grad, same.grad)


@all_paths
def test_paths_agree_in_double_precision(path):
    out, mixed, grad = results(path, (2, 3, 17, 16), torch.float64)
    expected = results(explicit, (2, 3, 17, 16), torch.float64)
    torch.testing.assert_close(out, expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, expected[2], rtol=0, atol=1e-12)
    assert_same(mixed, expected[1].float(), 1e-6)


@all_paths
@pytest.mark.parametrize('carry', [False, True])
@pytest.mark.parametrize('width', [60, 61, 63, 64])
def test_half_precision_fills_heads_up_to_a_multiple_of_eight(path, width, carry, monkeypatch):
    widths = set()
    widen = channels.widen

    def watched(tensor, width, *args, **kwargs):
        widths.add(width)
        return widen(tensor, width, *args, **kwargs)

    monkeypatch.setattr(channels, 'widen', watched)
    torch.manual_seed(0)
    shape, share = (2, 3, 17, width), torch.rand(2, 17)
    _, qkv = projections(*shape, torch.bfloat16)
    _, mixed, _ = path(*qkv, share, None, carry)
    single = 64 if width < 64 else 72
    if path is kernels.separate_share_attention and not carry:
        single = None  # the head itself
    assert widths == ({single} if single else set())
    _, expected, _ = explicit(*(x.float() for x in qkv), share)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-3)


@all_paths
@pytest.mark.parametrize(
    'dtype, tolerance',
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)],
    ids=str,
)
@pytest.mark.parametrize('keys, scale', [(17, None), (5, 0.2)])
def test_values_are_carried_by_deviations(path, dtype, tolerance, keys, scale):
    torch.manual_seed(0)
    query = torch.randn(2, 3, 17, 16, dtype=torch.float64)
    key, value = torch.randn(2, 2, 3, keys, 16, dtype=torch.float64)
    query, key, value = (x.to(dtype).requires_grad_() for x in (query, key, value))
    share = torch.rand(2, keys)
    for buffers in (None, {}, {}):
        more = {} if buffers is None or path is not PATHS[0] else dict(buffers=buffers)
        out, mixed, carried = path(query, key, value, share, scale, True, **more)
        assert carried.dtype == dtype and not carried.requires_grad
        alone = path(query, key, value, share, scale)
        assert alone[2] is None
        assert_same(out, alone[0], max(tolerance, 1e-6))
        assert_same(mixed, alone[1], max(tolerance, 1e-6))
        q, k, v = (x.detach().double() for x in (query, key, value))
        weights = (q @ k.mT * (scale or 16**-0.5)).softmax(-1)
        deviation = (share - share.mean(1, keepdim=True))[:, None, :, None]
        expected = weights @ (deviation.to(dtype).double() * v)
        assert (carried - expected).abs().max() < tolerance
        constant = torch.full_like(share, 0.3)
        assert path(query, key, value, constant, scale, True)[2].abs().max() < 1e-6


@all_paths
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_paths_in_half_precision(path, dtype):
    shape = (2, 3, 65, 16)
    out, mixed, grad = results(path, shape, dtype)
    expected = results(explicit, shape)
    assert out.dtype == grad.dtype == dtype
    assert mixed.dtype == torch.float32
    assert (out - expected[0]).abs().max() < 3e-2
    # the error comes from the half precision of queries and keys
    assert (mixed - expected[1]).abs().max() < 5e-3


@all_paths
def test_features_under_autocast_are_those_of_the_public_function(path):

    def public(query, key, value, share):
        return F.scaled_dot_product_attention(query, key, value), share, None

    with torch.autocast('cpu', torch.bfloat16):
        out, _, grad = results(path, (2, 3, 65, 16))
        expected, _, expected_grad = results(public, (2, 3, 65, 16))
    assert out.dtype == expected.dtype == torch.bfloat16
    assert_same(out, expected, 2e-2)
    assert_same(grad, expected_grad, 1e-4)


def chosen():
    return choice.choose_kernel(choice.default_case(CPU, torch.float32))


def test_fused_path_is_chosen_on_the_cpu(logged):
    assert chosen() is kernels.fused_share_attention
    assert [level for level, _ in logged] == [logging.INFO]


@pytest.mark.parametrize(
    'guard',
    [torch.no_grad, torch.inference_mode, functools.partial(torch.autocast, 'cpu', torch.bfloat16)],
)
def test_the_choice_does_not_depend_on_where_it_is_made(logged, guard):
    with guard():
        assert chosen() is kernels.fused_share_attention


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
    loss_of(stock).backward()
    expected = gradients(backbone)
    for _ in range(2):
        features = assert_labels_follow(backbone, images, toys.shares())
        assert_same(features, stock)
        loss_of(features).backward()
        assert_same(gradients(backbone), expected)
    assert chosen() is kernels.padded_share_attention
    (line,) = (line for level, line in logged if level >= logging.WARNING)
    assert reason in line


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('path', [None, *PATHS], ids=lambda path: path and path.__name__)
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


def test_no_attention_matrix_is_built():

    class Largest(TorchDispatchMode):
        """Size of the largest tensor that any operator returns."""

        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(value, torch.Tensor):
                    self.numel = max(self.numel, value.numel())
            return out

    backbone = toys.vit(img_size=96)
    tokens, channels = 24 * 24 + 1, 32
    with Largest() as largest:
        with LabelTrace(backbone)(toys.shares(2, 24)):
            features = backbone(toys.images(2, 96))
        loss_of(features).backward()
    # queries, keys and values together are the largest; the matrix of a
    # single head would be six times as large
    assert largest.numel == 2 * tokens * 3 * channels < tokens**2


def test_buffers_of_many_shapes_do_not_pile_up():
    buffers = {}
    for tokens in range(1, 3 * fused.MAX_BUFFERS):
        _, qkv = projections(1, 1, tokens, 8)
        kernels.fused_share_attention(*qkv, torch.rand(1, tokens), buffers=buffers)
        assert 0 < len(buffers) <= fused.MAX_BUFFERS


@all_paths
@pytest.mark.parametrize('scale', [None, 0.2])
def test_reduced_keys_and_another_scale(path, scale):
    torch.manual_seed(0)
    query = torch.randn(2, 3, 11, 16, requires_grad=True)
    key, value = torch.randn(2, 2, 3, 5, 16).unbind()
    share = torch.rand(2, 5)
    out, mixed, _ = path(query, key, value, share, scale)
    loss_of([out]).backward()
    grad, query.grad = query.grad, None
    weights = query @ key.transpose(-2, -1) * (scale or 16**-0.5)
    weights = weights.softmax(-1)
    loss_of([weights @ value]).backward()
    assert_same(out, weights @ value)
    assert_same(grad, query.grad)
    assert_same(mixed, (weights.mean(1) @ share[..., None])[..., 0], 2e-6)


def test_rows_are_those_of_the_matrix():
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 3, 7, 8)
    rows = kernels.attend_rows(query[:, :, 2:4], key)
    weights = (query @ key.transpose(-2, -1) / 8**0.5).softmax(-1).mean(1)
    assert_same(rows, weights[:, 2:4], 1e-6)
