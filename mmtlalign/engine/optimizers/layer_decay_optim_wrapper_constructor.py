"""Learning rates that fall with depth, for any model with a backbone."""

from collections.abc import Callable
from functools import partial

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmtlalign.errors import UserError
from mmtlalign.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay, for detectors and segmenters too.

    mmpretrain asks the model for the depth of a parameter, which only its own classifiers can tell;
    mmdet's and mmseg's constructors do not know its backbones. Here the backbone is asked.
    ``paramwise_cfg`` is mmpretrain's: the rate of block i of n (from 1; 0 is the patch embedding
    with tokens and positions) is ``lr * layer_decay_rate ** (n + 1 - i)``, and that of all that
    comes after the blocks, the final norm, neck and heads, is ``lr``.

    Raises:
        UserError: If the model has no backbone that can tell depths; all of
            mmpretrain's vision transformers can.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable | None = None,
        **kwargs,
    ) -> None:
        """Add one group per parameter of the model and, by recursion, of its parts, to those so
        far; depths, and how many there are, are the backbone's."""
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise UserError(
                    f'{type(self).__name__} needs a backbone that tells the depth of a parameter '
                    '(get_layer_depth), as those of mmpretrain do; model.backbone is a '
                    f'{type(backbone).__name__}'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)
