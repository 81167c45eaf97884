"""Shares and activation checkpointing.

The reference is always the same backbone without checkpointing, and the oracle on it. That
gradients and shares are those of it holds ``contract.py`` for the parts of every family.
"""

import functools

import pytest
import torch
from mmengine.runner import activation_checkpointing

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients, loss_of

PARTS = dict(
    VisionTransformer=['layers.1.attn', 'layers.2'],
    SwinTransformer=['stages.0.blocks.1.attn', 'stages.0.downsample', 'stages.1.blocks.1'],
)


@pytest.mark.parametrize(
    'type, way',
    [
        ('VisionTransformer', 'parts'),
        *(  # by a call, and by mmengine's function
            pytest.param(type, way, marks=pytest.mark.slow)
            for type, way in (
                ('SwinTransformer', 'parts'),
                ('SwinTransformer', 'a call'),
                ('VisionTransformer', 'a call'),
                ('VisionTransformer', 'the whole'),
            )
        ),
    ],
)
def test_recomputing_moves_nothing(type, way, run_checkpoint):
    stock, twin = (toys.vit() if type == 'VisionTransformer' else toys.swin() for _ in range(2))
    forward = functools.partial(run_checkpoint, twin) if way == 'a call' else twin
    holder = torch.nn.Module()
    holder.backbone = twin
    if way != 'a call':
        names = [f'backbone.{name}' for name in PARTS[type]] if way == 'parts' else 'backbone'
        activation_checkpointing.turn_on_activation_checkpointing(holder, names)
    instance_forward = vars(twin).get('forward')
    # a reentrant checkpoint passes gradients only if an input asks for them
    images = toys.images().requires_grad_()
    share = toys.shares(grid=4 if type == 'VisionTransformer' else 8)
    loss_of(stock(images)).backward()
    expected = gradients(stock)
    trace = LabelTrace(twin, record=True)

    # the backward of one forward runs while shares of the next are in place
    with trace(share.flip(-1)):
        loss = loss_of(forward(images))
    with trace(share):
        with torch.no_grad():
            twin(images)
        loss.backward()
    assert vars(twin).get('forward') is instance_forward
    assert_same(gradients(twin), expected)
    assert_equals_oracle(trace, stock, images.detach(), share)

    for inside in (True, False):
        with trace(share):
            loss = loss_of(forward(images))
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert_same(gradients(twin), expected)
    # other weights than in the forward would give other shares if the
    # recomputation moved them
    with trace(share):
        loss = loss_of(forward(images))
        for name, parameter in twin.named_parameters():
            if 'qkv' in name:
                # through `data`, unseen by autograd's version check
                parameter.data.mul_(-2)
        loss.backward()
    assert_equals_oracle(trace, stock, images.detach(), share)
