"""One file per backbone family, and the table of what is supported."""
from mmpretrain.models.backbones import (
    DeiT3,
    DistilledVisionTransformer,
    SwinTransformer,
    SwinTransformerV2,
    VisionTransformer,
)
from torch import nn

from .base import Mover, Patch, Rule, refuse_dropout, require_exact
from .swin import WindowAttentionRule
from .vit import GlobalAttentionRule

RULES = {
    VisionTransformer: GlobalAttentionRule,  # and LVViT, a subclass of it
    DistilledVisionTransformer: GlobalAttentionRule,
    DeiT3: GlobalAttentionRule,
    SwinTransformer: WindowAttentionRule,
    SwinTransformerV2: WindowAttentionRule,
}


def build_rule(backbone: nn.Module) -> Rule:
    """The rule of a backbone.

    Args:
        backbone (nn.Module): Exactly a class of :data:`RULES`, or a subclass
            that overrides no ``forward``.

    Raises:
        TypeError: Naming the class and the supported ones.
    """
    require_exact(backbone, backbone, *RULES)
    for cls, rule in RULES.items():
        if type(backbone).forward is cls.forward:
            return rule(backbone)


__all__ = [
    'RULES', 'Mover', 'Patch', 'Rule', 'build_rule', 'refuse_dropout',
    'require_exact'
]
