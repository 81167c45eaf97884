"""Shares move once, whatever activation checkpointing repeats and when."""

import functools

import pytest
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn, no_grad

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients, loss_of
from tests.test_alignment.contract import assert_checkpointing


@pytest.mark.parametrize(
    'type, way',
    [
        ('VisionTransformer', ['backbone.layers.1.attn', 'backbone.layers.2']),
        ('SwinTransformer', ['backbone.stages.0.downsample', 'backbone.stages.1.blocks.1']),
        ('VisionTransformer', 'backbone'),
        ('VisionTransformer', 'a call'),
        ('SwinTransformer', 'a call'),
    ],
    ids=str,
)
def test_recomputing_moves_nothing(type, way, run_checkpoint):
    (stock, images, share), (twin, *_) = toys.case(type), toys.case(type)
    forward, holder = functools.partial(run_checkpoint, twin), nn.Module()
    if way != 'a call':
        forward = holder.backbone = twin
        turn_on_activation_checkpointing(holder, way)
    assert_checkpointing(stock, images, share, twin, forward)

    # the backward of one forward runs while shares of the next are in place
    loss_of(stock(images)).backward()
    trace, given = LabelTrace(twin, record=True), images.clone().requires_grad_()
    with trace(share.flip(-1)):
        loss = loss_of(forward(given))
    with trace(share):
        with no_grad():
            twin(images)
        loss.backward()
    assert_same(gradients(twin), gradients(stock))
    assert_equals_oracle(trace, stock, images, share)

    # other weights than in the forward would give other shares if the
    # recomputation moved them
    with trace(share):
        loss = loss_of(forward(given))
        for name, parameter in twin.named_parameters():
            if 'qkv' in name:
                parameter.data.mul_(-2)  # unseen by autograd's version check
        loss.backward()
    assert_equals_oracle(trace, stock, images, share)
