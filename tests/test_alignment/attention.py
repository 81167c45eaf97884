"""What kernels are given, and what they should return."""

import torch

F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16


def inputs(shape, dtype, requires_grad=False):
    """Query, key and value as a projection lays them out, and shares.

    Args:
        shape (tuple[int]): Batch, heads, queries, keys, width.
    """
    b, h, n, m, d = shape
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(b, n, h, d, generator=generator)
    both = torch.randn(b, m, 2, h, d, generator=generator)
    tensors = (query.transpose(1, 2), *both.permute(2, 0, 3, 1, 4))
    if n == m:
        packed = torch.randn(b, n, 3, h, d, generator=generator).to(dtype)
        tensors = packed.permute(2, 0, 3, 1, 4)
    tensors = [x.to(dtype).requires_grad_(requires_grad) for x in tensors]
    return (*tensors, torch.rand(b, m, generator=generator))


def explicit(query, key, value, share, scale=None, bias=0.0):
    """Features, moved shares, carried values and logsumexp in float64."""
    query, key, value, share = (x.double() for x in (query, key, value, share))
    scale = query.size(-1) ** -0.5 if scale is None else scale
    scores = query @ key.mT * scale + bias
    matrix = scores.softmax(-1)
    deviation = (share - share.mean(1, keepdim=True))[:, None, :, None]
    moved = (matrix.mean(1) @ share[..., None])[..., 0]
    return matrix @ value, moved, matrix @ (deviation * value), scores.logsumexp(-1)


def gap(found, expected):
    assert found.shape == expected.shape
    return (found.double() - expected).abs().max().item()


def assert_agrees(path, shape, dtype, scale, tolerance, share_tolerance, grad_tolerance):
    """Hold what a kernel returns, with carried values and without, and its gradients against the
    matrix; return the features."""
    tensors = inputs(shape, dtype, True)
    doubles = [x.detach().double().requires_grad_() for x in tensors[:3]]
    expected, moved, own, _ = explicit(*doubles, tensors[3], scale)
    grad = torch.randn_like(tensors[0])
    expected_grads = torch.autograd.grad(expected, doubles, grad.double())
    for carry in (False, True):
        out, mixed, carried = path(*tensors, scale, carry)
        assert out.dtype == dtype and mixed.dtype == F32 and not mixed.requires_grad
        assert gap(out, expected) < tolerance
        assert gap(mixed, moved) < share_tolerance
        for ours, theirs in zip(torch.autograd.grad(out, tensors[:3], grad), expected_grads):
            assert ours.dtype == dtype and gap(ours, theirs) < grad_tolerance
        if carry:
            assert carried.dtype == dtype and not carried.requires_grad
            assert gap(carried, own) < max(tolerance, 1e-7)  # shares are float32
        else:
            assert carried is None
    return out
