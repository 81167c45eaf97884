"""Convolutions in the order of memory that GPUs prefer."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import channels_last, nn

from mmtlalign.errors import UserError
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class ChannelsLast(Hook):
    """Keep the weights of convolutions in channels-last order.

    A convolution follows the order of its weights, whatever that of its input. ``--channels-last``
    of ``tools/train.py`` adds this hook.

    Raises:
        UserError: If all convolutions cut images into patches, side by side: those gain nothing.
    """

    def before_train(self, runner: Runner) -> None:
        """Reorder, once the weights are there."""
        sliding = [
            module
            for module in runner.model.modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size > module.stride
        ]
        if not sliding:
            raise UserError(
                '--channels-last: this model has no convolutions that overlap and would gain '
                'from it; leave it out'
            )
        runner.model.to(memory_format=channels_last)
