"""Which kernel carries shares: found out at first use, logged once.

Every candidate is held against the public function on small random tensors, gradients included. On
a CPU the first that agrees is kept, so that a resumed training repeats exactly; on a GPU those that
agree are timed at the shape that is there, and of those within 5 % of the fastest the first is
kept.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mmtlalign.interception import inside_checkpoint

from .channels import Attended, precision, separate_share_attention
from .fused import fused_share_attention

logger = logging.getLogger('mmtlalign')
# Name of a kernel -> module and function; what cannot be imported is left out, with the reason.
KERNELS = dict(
    fused=('fused', 'fused_share_attention'),
    triton=('triton', 'share_pass_attention'),
    triton_flash=('triton', 'share_flash_attention'),
    separate=('channels', 'separate_share_attention'),
    padded=('channels', 'padded_share_attention'),
)
# In order of preference. The last is the public function itself, which stays where nothing works.
ORDER = dict(cpu=('fused', 'padded'), cuda=('triton', 'triton_flash', 'separate', 'padded'))
ELSEWHERE = ('separate', 'padded')
TIMED = ('cuda',)
# Their features are those of the stock call, as a recomputation needs them.
BESIDE_STOCK = ('triton', 'separate')
# Largest difference allowed in features, gradients and shares.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
MARGIN = 1.05
_chosen: dict[tuple, Callable] = {}


class Case(NamedTuple):
    """What a choice holds for: all of the shapes but the batch."""

    device: torch.device
    dtype: torch.dtype
    num_heads: int
    num_queries: int
    num_keys: int
    dims: int
    carry: bool


def default_case(device: torch.device, dtype: torch.dtype) -> Case:
    """What stands for every shape where nothing is timed; on a CPU for every precision."""
    return Case(device, dtype if device.type in TIMED else torch.float32, 3, 9, 9, 16, True)


class ShareAttention:
    """Attention by the kernel that was chosen for what it is given; see
    :mod:`mmtlalign.alignment.kernels`. One object serves all blocks and steps of a trace, so that
    they share buffers."""

    def __init__(self) -> None:
        self.buffers: dict = {}
        self.case: Case | None = None

    def prepare(self, device: torch.device) -> None:
        """Choose for where nothing can be tried: in compiled code, and in what activation
        checkpointing repeats."""
        case = default_case(device, precision(device, torch.float32))
        if case == self.case or torch.compiler.is_compiling():
            return
        self.case = case
        self.kernel = choose_kernel(case)
        self.beside = choose_kernel(case, beside=True)
        if self.kernel is fused_share_attention:
            self.kernel = partial(self.kernel, buffers=self.buffers)

    def __call__(self, query, key, value, share, scale=None, carry=False) -> Attended:
        return self._kernel_for(query, key, carry)(query, key, value, share, scale, carry)

    def _kernel_for(self, query: Tensor, key: Tensor, carry: bool) -> Callable:
        device, beside = query.device, inside_checkpoint()
        dtype = precision(device, query.dtype)
        if device.type in TIMED and not beside and not torch.compiler.is_compiling():
            b, h, n, d = query.shape
            return choose_kernel(Case(device, dtype, h, n, key.size(2), d, carry), b)
        if self.case != default_case(device, dtype):
            return separate_share_attention
        return self.beside if beside else self.kernel


def choose_kernel(case: Case, batch: int | None = None, beside: bool = False) -> Callable:
    """The kernel for a case, chosen and logged once.

    Args:
        case (Case): Device, precision and shape.
        batch (int, optional): Images of a batch to time kernels with. Defaults to None: the first
            that agrees.
        beside (bool): Whether features must be those of the stock call. Defaults to False.

    Raises:
        ValueError: ``MMTLALIGN_KERNEL`` names no kernel.
        RuntimeError: It names one that does not work here.
    """
    timer = None if batch is None else partial(_time, case=case, batch=batch)
    what = (*case[:2], *(case[2:] if timer else ()), *(('beside stock',) if beside else ()))
    cases = (case,) if timer else (case, case._replace(carry=False))
    candidates = partial(_candidates, case.device, beside)
    return choose_once(what, candidates, lambda kernel: _gap(kernel, *cases), timer)


def choose_once(what: tuple, candidates: Callable, gap: Callable, timer) -> Callable:
    """Remembers what :func:`choose` chose for ``what``: a device and more. ``candidates`` returns
    its ``loaders``."""
    if what not in _chosen:
        # Whatever mode the first trace is entered in.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(what[0].type, enabled=False),
        ):
            _chosen[what] = choose(candidates(), gap, timer, ', '.join(map(str, what)))
    return _chosen[what]


def _candidates(device: torch.device, beside: bool) -> dict[str, Callable]:
    """Loaders of kernels by name, the one asked for alone."""
    names = ORDER.get(device.type, ELSEWHERE)
    if beside:
        names = tuple(name for name in BESIDE_STOCK if name in names or name == 'separate')
    forced = os.environ.get('MMTLALIGN_KERNEL')
    if forced and forced not in KERNELS:
        raise ValueError(f'MMTLALIGN_KERNEL={forced} is unknown; use one of {", ".join(KERNELS)}.')
    if forced and not (beside and forced not in BESIDE_STOCK):
        names = (forced,)
    return {name: partial(load, *KERNELS[name]) for name in names}


def load(module: str, function: str) -> Callable:
    """A kernel of this package."""
    return getattr(import_module(f'.{module}', __package__), function)


def choose(loaders: dict[str, Callable], gap: Callable, timer, label: str) -> Callable:
    """Check candidates, time them, keep one and log why, under a label.

    ``loaders`` return kernels, in order of preference; ``gap`` says how far one is off, and raises
    where it fails; ``timer`` gives its seconds. Without it the first sound one is kept, and no
    other is asked.
    """
    kernels, notes, times = {}, [], {}
    for name, load in loaders.items():
        try:
            kernel = load()
            note = f'{name} off by {gap(kernel):.0e}'
            times[name] = timer(kernel) if timer else 0.0
        except Exception as error:  # compilers and drivers raise anything
            notes.append(f'{name} left out: {first_line(error)}')
            continue
        kernels[name] = kernel
        notes.append(note + (f', {times[name] * 1e6:.0f} us' if timer else ''))
        if timer is None:
            break
    level = logging.WARNING if len(notes) > len(kernels) else logging.INFO
    limit = MARGIN * min(times.values(), default=0.0)
    best = next((name for name in kernels if times[name] <= limit), None)
    if timer is not None:
        best = _of_rank_0(best, kernels)
    if best is None and len(loaders) > 1:
        kernels[name], best = load(), name
    if best is None:
        raise RuntimeError(f'no kernel for shares works on {label}: {"; ".join(notes)}.')
    logger.log(level, 'Shares on %s go through %s (%s).', label, best, '; '.join(notes))
    return kernels[best]


def first_line(error: Exception) -> str:
    """What it is and says, for a log of one line."""
    return f'{type(error).__name__}: {str(error).strip()}'.splitlines()[0]


def _of_rank_0(best: str | None, kernels: dict) -> str | None:
    """Rank 0's choice for all, where it works here too: other kernels round otherwise, and their
    times differ."""
    if not (dist.is_available() and dist.is_initialized()):
        return best
    said = [best]
    dist.broadcast_object_list(said, src=0)
    return said[0] if said[0] in kernels else best


def draw(case: Case, batch: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Random query, key and value as projections lay them out, shares of the keys and a gradient of
    the features; without the global generator."""
    generator = torch.Generator().manual_seed(0)
    sizes = (case.num_queries, case.num_keys, case.num_keys, case.num_queries)
    *qkv, grad = (
        torch.randn(batch, size, case.num_heads, case.dims, generator=generator)
        .to(case.device, case.dtype)
        .transpose(1, 2)
        for size in sizes
    )
    share = torch.rand(batch, case.num_keys, generator=generator)
    return [x.requires_grad_() for x in qkv], share.to(case.device), grad


def _gap(kernel: Callable, *cases: Case) -> float:
    """Largest difference from the public function, on small tensors."""
    gaps = []
    for case in cases:
        queries, keys = min(case.num_queries, 70), min(case.num_keys, 70)
        case = case._replace(num_heads=min(case.num_heads, 3), num_queries=queries, num_keys=keys)
        qkv, share, grad = draw(case, 2)
        out, mixed, carried = kernel(*qkv, share, None, case.carry)
        query, key, value = qkv
        expected = F.scaled_dot_product_attention(query, key, value)
        moved, own = explicit_shares(query, key, value, share)
        pairs = [
            (out, expected),
            (mixed, moved),
            *zip(*(torch.autograd.grad(x, qkv, grad) for x in (out, expected))),
        ]
        if case.carry:
            pairs.append((carried, own))
        gaps += [(x.detach().double() - y.detach().double()).abs().max() for x, y in pairs]
    # a tensor's maximum, as Python's passes over NaN
    return limited(torch.stack(gaps).max().item(), TOLERANCES[case.dtype])


def limited(gap: float, limit: float) -> float:
    """The difference; ArithmeticError where it is above the limit, or not finite."""
    if not gap <= limit:  # NaN is not
        raise ArithmeticError(f'differs from the public function by {gap:.1e}')
    return gap


@torch.no_grad()
def explicit_shares(query, key, value, share) -> tuple[Tensor, Tensor]:
    """Moved shares and carried values by the matrix itself, in float64."""
    query, key, value, share = (x.double() for x in (query, key, value, share))
    matrix = (query @ key.mT * query.size(-1) ** -0.5).softmax(dim=-1)
    deviation = share - share.mean(dim=1, keepdim=True)
    moved = (matrix.mean(dim=1) @ share[..., None])[..., 0]
    return moved, matrix @ (deviation[:, None, :, None] * value)


def _time(kernel: Callable, case: Case, batch: int) -> float:
    """Seconds of forward and backward."""
    qkv, share, grad = draw(case, batch)

    def run() -> None:
        out, *_ = kernel(*qkv, share, None, case.carry)
        torch.autograd.grad(out, qkv, grad)

    return seconds(run)


def seconds(run: Callable, repeats: int = 10) -> float:
    """Median on a GPU, after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times[2:])[repeats // 2]
