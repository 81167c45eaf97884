"""What of a model is sharded, and gathered, together."""

from torch import nn

from mmtlalign.alignment.families import build_family


def transformer_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model's backbone, in the order of the forward, by where its family mixes
    tokens; none if it is of no known family.

    A layer is the item of the innermost list or sequence that such a place is in.
    """
    backbone = getattr(model, 'backbone', None)
    try:
        sites = build_family(backbone).sites
    except (TypeError, ValueError):  # a ResNet, or attention dropout
        return []
    names = {module: name for name, module in backbone.named_modules()}
    mixing = [getattr(site, 'attn', None) or site.module for site in sites if site.in_block]
    found = [layer_of(backbone, names[module]) for module in mixing]
    return [layer for layer in dict.fromkeys(found) if layer is not None]


def layer_of(backbone: nn.Module, name: str) -> nn.Module | None:
    """The item of a list that a module is in, if it is in one."""
    while name:
        parent = name.rpartition('.')[0]
        if isinstance(backbone.get_submodule(parent), (nn.ModuleList, nn.Sequential)):
            return backbone.get_submodule(name)
        name = parent
    return None
