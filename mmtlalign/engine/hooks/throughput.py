"""How fast a training is, in its log."""

import re

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from mmtlalign.registry import HOOKS

from ..optimizers import BFloat16OptimWrapper
from .peak_memory import peak_of_process

# Dense half-precision TFLOP/s as the vendor publishes them, by words of the
# name that torch reports; the first that fits.
PEAK_TFLOPS = {
    'H100 PCIe': 756,
    'H100': 989,
    'H200': 989,
    'A100': 312,
    'L40S': 362,
    'A10': 125,
    'L4': 121,
    'V100': 125,
    'T4': 65,
}
WINDOW = 10  # steps that a rate is averaged over


@HOOKS.register_module()
class Throughput(Hook):
    """Log ``images_per_second`` of all processes together, and what is known of the device.

    On a CPU ``memory`` is the peak of the process in MiB; on a GPU mmengine logs that of tensors
    under this name. ``mfu`` is the part of the device's peak that the step's FLOPs are: those of
    forward and backward, counted once, in the first step. ``tools/train.py`` registers this hook
    for every training.

    Args:
        peak_tflops (float, optional): Of a device. Defaults to what is known
            of the GPU in half precision; without either there is no ``mfu``.
    """

    # After the timer, before the log.
    priority = 55

    def __init__(self, peak_tflops: float | None = None) -> None:
        self.peak_tflops = peak_tflops
        self._counter: FlopCounterMode | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the peak, and count only where there is one."""
        half = isinstance(runner.optim_wrapper, (AmpOptimWrapper, BFloat16OptimWrapper))
        self._peak = self.peak_tflops or (known_peak() if half else None)
        self._counter, self._flops = None, 0

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count the operations of the first step."""
        if self._peak and self._counter is None:
            # torch would take a step that is compiled while it counts for one never to compile
            self._eager = torch.compiler.set_stance('force_eager')
            self._eager.__enter__()
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Log the rates."""
        if self._counter is not None and not self._flops:
            self._counter.__exit__(None, None, None)
            self._eager.__exit__(None, None, None)
            self._flops = self._counter.get_total_flops()
        hub = runner.message_hub
        seconds = hub.get_scalar('train/time').mean(WINDOW)
        if isinstance(data_batch, dict) and 'data_samples' in data_batch:
            images = len(data_batch['data_samples']) * runner.world_size
            hub.update_scalar('train/images_per_second', images / seconds)
        if self._peak:
            hub.update_scalar('train/mfu', self._flops / (seconds * self._peak * 1e12))
        if not torch.cuda.is_available():
            hub.update_scalar('train/memory', peak_of_process())


def known_peak() -> float | None:
    """Of this GPU in half precision; None if nobody knows, or there is none."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ''
    known = (peak for words, peak in PEAK_TFLOPS.items() if re.search(rf'\b{words}\b', name))
    return next(known, None)
