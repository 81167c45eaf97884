"""Proof that pretrained weights have arrived."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmtlalign.checkpoint import expected_weights, find_pretrained
from mmtlalign.errors import UserError
from mmtlalign.registry import HOOKS

from ..sharding.tensors import whole


@HOOKS.register_module()
class VerifyPretrained(Hook):
    """Compare every pretrained tensor with its file before the first step.

    mmengine loads what fits and only logs the rest, so that a wrong prefix or another architecture
    trains from random weights. This hook first, before anything is loaded, reads the file of every
    ``init_cfg`` that says ``Pretrained``, safely and strictly, into a copy of its module; what may
    be missing or left over is listed in ``mmtlalign/checkpoint/pretrained.py`` and logged. Then,
    when the host has initialized the model, every tensor must equal that copy's bit for bit.

    A training that is resumed, or starts from ``load_from``, does not get
    its weights there, and nothing is compared. ``tools/train.py`` adds the
    hook to all others; a config may name it in ``custom_hooks``.

    Args:
        trust (bool): Also read files that hold more than weights, which may
            run code. Defaults to False.

    Raises:
        UserError: If an ``init_cfg``, a file or a prefix is wrong, the weights do not fit, or a
            tensor differs in the end, naming the first.
    """

    # After every other hook that could still touch the weights.
    priority = 'LOWEST'

    def __init__(self, trust: bool = False) -> None:
        self.trust = trust
        self._expected: dict[str, dict[str, Tensor]] = {}

    def before_run(self, runner: Runner) -> None:
        """Read the files and hold them against the modules."""
        if self._expected:  # read before the model was sharded
            return
        model = _unwrapped(runner)
        for name, init_cfg in find_pretrained(model).items():
            self._expected[name], line = expected_weights(
                model.get_submodule(name), name, init_cfg, self.trust
            )
            runner.logger.info(line)

    def before_train(self, runner: Runner) -> None:
        """Compare what the host has loaded."""
        model = _unwrapped(runner)
        if runner._has_loaded:  # a checkpoint of the whole model
            self._expected.clear()
            runner.logger.info(
                'Weights: from a checkpoint of the whole model, so those of init_cfg are '
                'not compared'
            )
        for name, expected in self._expected.items():
            live = model.get_submodule(name).state_dict()
            for key, value in expected.items():
                if not torch.equal(whole(live[key]).cpu(), value):
                    raise UserError(
                        f'model.{name}: {key} is not what its init_cfg names: '
                        'something has changed the weights after they were '
                        'loaded (another hook, or an init_weights)'
                    )
            runner.logger.info(f'Weights of {name}: verified, {len(expected)} tensors are equal')
        self._expected.clear()


def _unwrapped(runner: Runner) -> nn.Module:
    """The model without its wrapper for several processes."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model
