"""Mixed precision without scaling of losses, on CPUs as well."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmtlalign.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 wherever autocast deems it safe.

    mmengine's ``AmpOptimWrapper`` is for accelerators only, and scales losses. Weights, their
    gradients and the optimizer stay in float32; losses are not scaled, since
    bfloat16 reaches as far as float32. Arguments are mmengine's.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context in which the runner calls the model."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
