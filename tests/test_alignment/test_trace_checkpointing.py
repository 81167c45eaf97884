"""Shares and activation checkpointing.

The reference is always the same backbone without checkpointing, and the
oracle on it.
"""

import functools

import pytest
import torch
from mmengine.runner import activation_checkpointing

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients, loss_of

MAKERS = dict(VisionTransformer=toys.vit, SwinTransformer=toys.swin)
# how a checkpointed backbone is made of a class name: mmengine's function on
# layers or on parts of them, Swin's own option, a call around the whole
WAYS = [
    ('VisionTransformer', ['layers.1.attn', 'layers.2']),
    ('SwinTransformer', ['stages.0.blocks.1.attn', 'stages.0.downsample', 'stages.1.blocks.1']),
    ('SwinTransformer', 'with_cp'),
    ('VisionTransformer', 'whole'),
    ('SwinTransformer', 'whole'),
]
all_ways = pytest.mark.parametrize(
    'type, way',
    [WAYS[0], *(pytest.param(*way, marks=pytest.mark.slow) for way in WAYS[1:])],
    ids=str,
)


def make(type, way, run_checkpoint):
    """Stock backbone, its checkpointed twin, and a call of the twin."""
    stock = MAKERS[type](type)
    twin = MAKERS[type](type, **(dict(with_cp=True) if way == 'with_cp' else {}))
    forward = twin
    if way == 'whole':
        forward = functools.partial(run_checkpoint, twin)
    elif way != 'with_cp':
        activation_checkpointing.turn_on_activation_checkpointing(twin, way)
    share = toys.shares(grid=4 if MAKERS[type] is toys.vit else 8)
    return stock, twin, forward, share


def images_with_gradient():
    # a reentrant checkpoint passes gradients only if an input asks for them
    return toys.images().requires_grad_()


@all_ways
@pytest.mark.parametrize('inside', [True, False], ids=['inside', 'outside'])
def test_recomputing_moves_nothing(type, way, inside, run_checkpoint):
    stock, twin, forward, share = make(type, way, run_checkpoint)
    images = images_with_gradient()
    loss_of(stock(images)).backward()
    trace = LabelTrace(twin, record=True)
    with trace(share):
        loss = loss_of(forward(images))
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert_same(gradients(twin), gradients(stock))

    # other weights than in the forward: would give other shares if the
    # recomputation moved them
    with trace(share):
        loss = loss_of(forward(images))
        for name, parameter in twin.named_parameters():
            if 'qkv' in name:
                # through `data`, unseen by autograd's version check
                parameter.data.mul_(-2)
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert_equals_oracle(trace, stock, images.detach(), share)


@all_ways
def test_recomputing_inside_the_next_trace(type, way, run_checkpoint):
    # accumulated gradients: the backward of one forward runs while shares of
    # the next are in place
    stock, twin, forward, share = make(type, way, run_checkpoint)
    images = images_with_gradient()
    loss_of(stock(images)).backward()
    trace = LabelTrace(twin, record=True)
    with trace(share.flip(-1)):
        features = forward(images)
    with trace(share):
        with torch.no_grad():
            twin(images)
        loss_of(features).backward()
    assert_same(gradients(twin), gradients(stock))
    assert_equals_oracle(trace, stock, images.detach(), share)


def test_instance_forward_of_the_backbone_itself_stays(run_checkpoint):
    stock, twin = toys.vit(), toys.vit()
    holder = torch.nn.Module()
    holder.backbone = twin
    activation_checkpointing.turn_on_activation_checkpointing(holder, 'backbone')
    instance_forward = vars(twin)['forward']
    images, share = images_with_gradient(), toys.shares()
    loss_of(stock(images)).backward()
    trace = LabelTrace(twin, record=True)
    with trace(share):
        loss_of(twin(images)).backward()
    assert vars(twin)['forward'] is instance_forward
    assert_same(gradients(twin), gradients(stock))
    assert_equals_oracle(trace, stock, images.detach(), share)
