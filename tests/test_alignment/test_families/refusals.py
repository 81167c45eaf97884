"""What every family of this folder refuses, checked the same way."""

import pytest

from mmtlalign.alignment import LabelTrace


def assert_refuses_other_modules(backbone, names):
    """TypeError for a module whose class overrides ``forward``.

    Args:
        names (list[str]): Modules of the backbone, tried one by one.
    """
    LabelTrace(backbone)
    for name in names:
        module = backbone.get_submodule(name)
        stock = type(module)
        module.__class__ = type('Other', (stock,), dict(forward=lambda self, *args: None))
        with pytest.raises(TypeError, match=(f'^{name} is a Other of .* that overrides forward;')):
            LabelTrace(backbone)
        module.__class__ = stock


def assert_refuses_attention_dropout(backbone, name):
    """ValueError for attention dropout .3 in a module of that name."""
    with pytest.raises(ValueError, match=f'^{name} has attention dropout 0.3'):
        LabelTrace(backbone)
