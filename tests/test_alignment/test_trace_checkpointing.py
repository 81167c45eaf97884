"""Activation checkpointing around a whole backbone; of its parts, see ``contract.py``."""

import functools

import pytest
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn

from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing


@pytest.mark.parametrize(
    'type, by_mmengine',
    [('VisionTransformer', False), ('SwinTransformer', False), ('VisionTransformer', True)],
)
def test_around_the_whole(type, by_mmengine, run_checkpoint):
    (stock, *given), (twin, *_) = toys.case(type), toys.case(type)
    forward = functools.partial(run_checkpoint, twin)
    if by_mmengine:
        holder, forward = nn.Module(), twin
        holder.backbone = twin
        turn_on_activation_checkpointing(holder, 'backbone')
    assert_checkpointing(stock, *given, twin, forward)
