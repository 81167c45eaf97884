"""Shares through attention on GPUs, in Triton.

One kernel serves all: a program walks over the keys of a tile of queries of one head with an
online softmax (FlashAttention, arXiv 2205.14135), as it would for the features, and sums up what
is asked for. Nothing of the size of the matrix is stored, and no sum is atomic, so that results
repeat.

Tests run it in Triton's interpreter (``TRITON_INTERPRET=1``) on the CPU.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.library import custom_op, triton_op, wrap_triton

from .channels import Attended, as_autocast, centred, decode, scale_of

INTERPRET = triton.knobs.runtime.interpret
INTERPRETED = tl.constexpr(INTERPRET)
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
MAX_DIMS = 128


@triton.jit
def _load(ptr, rows, num, cols, stride, D: tl.constexpr, MASK: tl.constexpr):
    """Rows of a (num, D) matrix; zeros outside."""
    ptrs = ptr + rows[:, None] * stride + cols[None, :]
    if MASK or cols.shape[0] > D:
        inside = (rows[:, None] < num) & (cols[None, :] < D)
        return tl.load(ptrs, mask=inside, other=0.0)
    return tl.load(ptrs)


@triton.jit
def _dot(a, b, c):
    precision: tl.constexpr = 'tf32x3' if a.dtype == tl.float32 else 'ieee'
    if INTERPRETED and b.dtype == tl.bfloat16:  # the interpreter multiplies the bits of bfloat16
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, c, input_precision=precision)


@triton.jit
def _step(
    state,
    q,
    tensors,
    strides,
    sizes,
    rm,
    rn,
    cols,
    MASK: tl.constexpr,
    D: tl.constexpr,
    FEATURES: tl.constexpr,
    CARRY: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """A tile of keys: exponentials to the base 2 of scores less their running maximum, and sums
    of them."""
    K, V, S, BIAS = tensors
    skm, svm, sbn, sbm = strides
    N, M, scale2 = sizes
    top, whole, moved, acc, own = state
    x = tl.zeros([q.shape[0], rn.shape[0]], tl.float32)
    if HAS_BIAS:  # starts the accumulator, in the layout of the product
        inside = (rm[:, None] < N) & (rn[None, :] < M)
        x = tl.load(BIAS + rm[:, None] * sbn + rn[None, :] * sbm, mask=inside, other=0.0).to(
            tl.float32
        ) * (LOG2_E / scale2)
    x = _dot(q, tl.trans(_load(K, rn, M, cols, skm, D, MASK)), x)
    s = tl.load(S + rn, mask=rn < M, other=0.0)
    if MASK:
        x = tl.where(rn[None, :] < M, x, float('-inf'))
    new = tl.maximum(top, tl.max(x, 1) * scale2)
    # a row may be masked by the bias so far
    safe = tl.where(new == float('-inf'), 0.0, new)
    p = tl.math.exp2(x * scale2 - safe[:, None])
    old = tl.math.exp2(top - safe)
    ps = p * s[None, :]
    whole = whole * old + tl.sum(p, 1)
    moved = moved * old + tl.sum(ps, 1)
    if FEATURES or CARRY:
        v = _load(V, rn, M, cols, svm, D, MASK)
        if FEATURES:
            acc = _dot(p.to(v.dtype), v, acc * old[:, None])
        if CARRY:  # (p s) @ v, so that s * v is never stored
            own = _dot(ps.to(v.dtype), v, own * old[:, None])
    return new, whole, moved, acc, own


@triton.jit
def _store(ptr, x, rows, num, cols, stride, D: tl.constexpr):
    tl.store(
        ptr + rows[:, None] * stride + cols[None, :],
        x.to(ptr.dtype.element_ty),
        mask=(rows[:, None] < num) & (cols[None, :] < D),
    )


@triton.jit
def share_kernel(
    Q,
    K,
    V,
    S,
    BIAS,
    OUT,
    LSE,
    MOVED,
    OWN,
    sqb,
    sqh,
    sqn,
    skb,
    skh,
    skm,
    svb,
    svh,
    svm,
    sbb,
    sbh,
    sbn,
    sbm,
    tiles,
    H,
    N,
    M,
    scale,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    BN: tl.constexpr,
    BM: tl.constexpr,
    FEATURES: tl.constexpr,
    CARRY: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """A tile of queries of one head of one image.

    Q (B, H, N, D), K and V (B, H, M, D), BIAS (B, H, N, M) by strides, S (B, M) contiguous; OUT
    and OWN (B, N, H, D), LSE and MOVED (B, H, N).
    """
    pid = tl.program_id(0)
    h = ((pid // tiles) % H).to(tl.int64)
    b = (pid // (tiles * H)).to(tl.int64)
    rm = (pid % tiles) * BN + tl.arange(0, BN)
    cols = tl.arange(0, WIDTH)
    K += b * skb + h * skh
    V += b * svb + h * svh
    S += b * M
    BIAS += b * sbb + h * sbh
    scale2 = scale * LOG2_E
    q = _load(Q + b * sqb + h * sqh, rm, N, cols, sqn, D, True)
    zero = tl.zeros([BN], tl.float32)
    acc = tl.zeros([BN, WIDTH] if FEATURES else [BN, 1], tl.float32)
    own = tl.zeros([BN, WIDTH] if CARRY else [BN, 1], tl.float32)
    state = (zero + float('-inf'), zero, zero, acc, own)
    tensors, strides, sizes = (K, V, S, BIAS), (skm, svm, sbn, sbm), (N, M, scale2)
    full = M // BM * BM
    for start in range(0, full, BM):
        rn = start + tl.arange(0, BM)
        state = _step(
            state, q, tensors, strides, sizes, rm, rn, cols, False, D, FEATURES, CARRY, HAS_BIAS
        )
    if full < M:  # only the last tile of keys is masked
        rn = full + tl.arange(0, BM)
        state = _step(
            state, q, tensors, strides, sizes, rm, rn, cols, True, D, FEATURES, CARRY, HAS_BIAS
        )
    top, whole, moved, acc, own = state
    row = (b * H + h) * N + rm
    tl.store(MOVED + row, moved / whole, mask=rm < N)
    place = (b * N * H + h) * D
    if FEATURES:
        tl.store(LSE + row, (top + tl.math.log2(whole)) * LN_2, mask=rm < N)
        _store(OUT + place, acc / whole[:, None], rm, N, cols, H * D, D)
    if CARRY:
        _store(OWN + place, own / whole[:, None], rm, N, cols, H * D, D)


@triton.jit
def window_kernel(A, C, OUT, saw, sah, san, tiles, H, P, BN: tl.constexpr, BM: tl.constexpr):
    """Rows of one window: ``mean_heads(A) @ C`` of a softmax A (W, H, P, P) and channels C (W, P,
    2), in one reading."""
    pid = tl.program_id(0)
    w = (pid // tiles).to(tl.int64)
    rm = (pid % tiles) * BN + tl.arange(0, BN)
    rn = tl.arange(0, BM)
    first = tl.load(C + (w * P + rn) * 2, mask=rn < P, other=0.0)
    second = tl.load(C + (w * P + rn) * 2 + 1, mask=rn < P, other=0.0)
    ptrs = A + w * saw + rm[:, None] * san + rn[None, :]
    inside = (rm[:, None] < P) & (rn[None, :] < P)
    mean = tl.zeros([BN, BM], tl.float32)
    for h in range(H):
        mean += tl.load(ptrs + h * sah, mask=inside, other=0.0).to(tl.float32)
    out = OUT + (w * P + rm) * 2
    tl.store(out, tl.sum(mean * first[None, :], 1) / H, mask=rm < P)
    tl.store(out + 1, tl.sum(mean * second[None, :], 1) / H, mask=rm < P)


def _run(kernel, programs: int, *args, **options) -> None:
    if not INTERPRET:
        wrap_triton(kernel)[(programs,)](*args, **options)
    elif not isinstance(args[0], FakeTensor):  # of which the compiler asks for shapes alone
        kernel[(programs,)](*args, **options)


def _launch(query, key, value, deviation, bias, scale: float, features: bool, carry: bool):
    """Features, logsumexp, moved deviations by head and carried values; empty ones where not asked
    for. ``value`` and ``bias`` may be None."""
    b, h, n, d = query.shape
    m = key.size(2)
    if d > MAX_DIMS:
        raise NotImplementedError(f'heads of {d} channels; at most {MAX_DIMS} fit')
    value = key if value is None else value  # which is not read
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    strides = [stride for x in (query, key, value) for stride in x.stride()[:3]]
    strides += (0, 0, 0, 0) if bias is None else bias.expand(b, h, n, m).stride()
    asked = dict(FEATURES=features, CARRY=carry, HAS_BIAS=bias is not None)
    bias = query.new_empty(0) if bias is None else bias
    out, own = (query.new_empty((b, n, h, d) if kept else 0) for kept in (features, carry))
    moved = query.new_empty(b, h, n, dtype=torch.float32)
    lse = moved.new_empty(moved.shape if features else 0)
    tensors = query, key, value, deviation.contiguous(), bias, out, lse, moved, own
    config = tile(n, m, d, query.dtype) | dict(D=d, **asked)
    tiles = triton.cdiv(n, config['BN'])
    _run(share_kernel, b * h * tiles, *tensors, *strides, tiles, h, n, m, scale, **config)
    heads_first = [x.transpose(1, 2) if x.ndim == 4 else x for x in (out, own)]
    return heads_first[0], lse, moved, heads_first[1]


def tile(num_queries: int, num_keys: int, dims: int, dtype: torch.dtype) -> dict[str, int]:
    """What a program works on; no autotuning, so that results repeat."""
    exact, wide = dtype == torch.float32, dims > 64
    rows = 128 if num_queries > 64 and not (exact or wide) else 64
    if exact and wide:  # else shared memory does not suffice everywhere
        rows = 32
    return dict(
        BN=rows,
        WIDTH=max(16, triton.next_power_of_2(dims)),
        BM=min(32 if exact or wide else 64, max(16, triton.next_power_of_2(num_keys))),
        num_warps=rows // 16 if rows > 32 else 4,
        num_stages=1 if exact and wide else 2 if wide else 3,
    )


def _share_pass(
    query: Tensor, key: Tensor, deviation: Tensor, scale: float, bias: Tensor | None = None
) -> Tensor:
    return _launch(query, key, None, deviation, bias, scale, False, False)[2]


def _share_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    deviation: Tensor,
    scale: float,
    features: bool,
    carry: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _launch(query, key, value, deviation, None, scale, features, carry)


def _window_pass(matrix: Tensor, channels: Tensor) -> Tensor:
    w, h, p, _ = matrix.shape
    if matrix.stride(-1) != 1:
        matrix = matrix.contiguous()
    out = channels.new_empty(w, p, 2)
    width = max(16, triton.next_power_of_2(p))
    rows = max(1, min(width, 4096 // width))
    tiles = triton.cdiv(p, rows)
    strides = matrix.stride()[:3]
    tensors = matrix, channels.contiguous(), out
    _run(window_kernel, w * tiles, *tensors, *strides, tiles, h, p, BN=rows, BM=width)
    return out


def _register(name: str, function):
    """An operator of which the compiler sees the kernel inside, or, as it cannot look into
    interpreted ones, a closed one."""
    if not INTERPRET:
        return triton_op(f'mmtlalign::{name}', function, mutates_args=())
    operator = custom_op(f'mmtlalign::{name}', function, mutates_args=())
    operator.register_fake(function)
    return operator


share_pass = _register('share_pass', _share_pass)
share_forward = _register('share_forward', _share_forward)
window_pass = _register('window_pass', _window_pass)


def _setup_context(ctx, inputs, output) -> None:
    query, key, value, _, ctx.scale, ctx.features, _ = inputs
    out, lse, moved, own = output
    ctx.mark_non_differentiable(lse, moved, own)
    ctx.save_for_backward(query, key, value, out, lse)


def _backward(ctx, grad, *_):
    """PyTorch's flash backward, on the original tensors."""
    query, key, value, out, lse = ctx.saved_tensors
    given = grad, query, key, value, out, lse
    if query.device.type == 'cpu':
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        grads = flash(*given, 0.0, False, scale=ctx.scale)
    else:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_backward
        unused = query.new_empty((), dtype=torch.uint64)  # for dropout only
        more = None, None, query.size(2), key.size(2), 0.0, False, unused, unused
        grads = flash(*given, *more, scale=ctx.scale)
    return (*grads, None, None, None, None)


share_forward.register_autograd(_backward, setup_context=_setup_context)


def share_pass_attention(query, key, value, share, scale=None, carry=False) -> Attended:
    """Features of the stock call, whatever computes it, and shares by a pass over query and key,
    and value where values are carried."""
    out = F.scaled_dot_product_attention(query, key, value, scale=scale)
    scale = scale_of(query, scale)
    with torch.no_grad():
        query, key, value = as_autocast(query, key, value)
        deviation, mean = centred(share, share)
        if not carry:
            moved = share_pass(query, key, deviation, scale)
            return out, decode(moved, mean), None
        _, _, moved, own = share_forward(query, key, value, deviation, scale, False, True)
    return out, decode(moved, mean), own


def share_flash_attention(query, key, value, share, scale=None, carry=False) -> Attended:
    """Features, shares and carried values in one pass, and PyTorch's flash backward. Not for
    recomputation, which would meet the stock call."""
    query, key, value = as_autocast(query, key, value)
    if query.device.type != 'cpu' and query.dtype.itemsize > 2:
        raise NotImplementedError('PyTorch has flash attention for half precision only')
    deviation, mean = centred(share, share)
    out, _, moved, own = share_forward(
        query, key, value, deviation, scale_of(query, scale), True, carry
    )
    return out, decode(moved, mean), own if carry else None
