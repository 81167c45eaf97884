"""Which kernel a device gets."""
import functools
import logging
from collections.abc import Callable

import torch

from . import fused
from .fused import fused_share_attention
from .padded import padded_share_attention

logger = logging.getLogger('mmtlalign')


@functools.lru_cache(maxsize=None)
def choose_kernel(device: torch.device) -> Callable:
    """The fastest kernel that works on a device, chosen and logged once.

    Args:
        device (torch.device): Where the backbone runs.

    Returns:
        Callable: :func:`fused_share_attention` where its kernels exist and
        agree with the public function on a small example, else
        :func:`padded_share_attention`.
    """
    reason = f'no fused kernel is known for {device.type}'
    if device.type in fused.FUSED_KERNELS:
        try:
            # Whatever mode the first trace is entered in.
            with torch.inference_mode(False), torch.enable_grad(), \
                    torch.autocast(device.type, enabled=False):
                reason = _disagreement(device)
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = f'it fails here ({str(error).splitlines()[0]})'
    if reason is None:
        return fused_share_attention
    logger.warning(
        'Shares go through padded attention on %s: fused share attention is '
        'left out because %s.', device, reason)
    return padded_share_attention


def _disagreement(device: torch.device) -> str | None:
    """Try the fused kernel once on small tensors; how it fails, or None."""
    dtype = torch.float32 if device.type == 'cpu' else torch.float16
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 2, 3, 9, 16, generator=generator)
    share = torch.rand(2, 9, generator=generator).to(device)
    results = []
    kernels: tuple[Callable, ...] = (
        fused_share_attention, padded_share_attention)
    for kernel in kernels:
        *qkv, grad = inputs.to(device, dtype).unbind()
        qkv = [x.clone().requires_grad_() for x in qkv]
        out, mixed = kernel(*qkv, share)
        grads = torch.autograd.grad(out, qkv, grad)
        results.append((out, mixed, *grads))
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    for ours, public in zip(*results):
        if not torch.allclose(ours.float(), public.float(), atol=tolerance):
            gap = (ours.float() - public.float()).abs().max().item()
            return f'it differs from the public function by {gap:.1e}'
    return None
