"""Mixed precision without scaling of losses, on CPUs as well."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmtlalign.registry import OPTIM_WRAPPERS


def is_fast_on_cpu() -> bool:
    """Whether the processor, and this build of torch, compute in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 wherever autocast deems it safe.

    mmengine's ``AmpOptimWrapper`` is for accelerators only, and scales losses. Weights, their
    gradients and the optimizer stay in float32; losses are not scaled, since
    bfloat16 reaches as far as float32. Arguments are mmengine's.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if get_device() == 'cpu' and not is_fast_on_cpu():
            print_log(
                'bfloat16 is slow here: this processor can only emulate it (a step of a small DeiT '
                'took eight to ten times that of float32); leave --amp out, or set '
                "optim_wrapper.type='OptimWrapper'",
                logger='current',
                level=logging.WARNING,
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context in which the runner calls the model."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
