"""The contract of ``LabelTrace``, sentence by sentence, for a plain and a hierarchical backbone.

What holds for every family stands in ``contract.py``.
"""

import pytest
import torch
from torch import nn

from mmtlalign.alignment import LabelTrace, Propagation
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_equals_oracle,
    assert_same,
    assert_untouched,
    gradients,
    loss_of,
    snapshot,
)

both = pytest.mark.parametrize('type', ['VisionTransformer', 'SwinTransformer'])


# What it gives.


@both
def test_what_a_traced_forward_leaves(type):
    backbone, images, share = toys.case(type)
    given, state = share.double().requires_grad_(), torch.get_rng_state()
    trace = LabelTrace(backbone, record=True)
    assert trace.grid_of(images) == tuple(share.shape[1:])
    with trace(given):
        loss_of(backbone(images)).backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(given, share.double()) and given.grad is None

    grids = [(4, 4)] * 3 if type == 'VisionTransformer' else [(8, 8)] * 2 + [(4, 4)] * 2
    extra = getattr(backbone, 'num_extra_tokens', 0)
    assert trace.block_grids == grids
    sizes = [(2, rows * cols + extra) for rows, cols in grids]
    assert [tuple(moved.shape) for moved in trace.block_shares] == sizes
    assert trace.output_share.shape == (2,)
    assert trace.output_token_share.shape == (2, 4, 4)
    for block in trace.block_shares:  # is read as the output is
        assert_same(trace.read(block), block[:, 0] if extra else block.mean(1))
    assert_same(trace.read(block), trace.output_share)
    for moved in (trace.output_share, trace.output_token_share, *trace.block_shares):
        assert moved.dtype == torch.float32 and not moved.requires_grad


# Outside `with` the backbone is the stock one.


@pytest.mark.parametrize(
    'type, where, error',
    [
        ('VisionTransformer', 'body', ArithmeticError),
        ('VisionTransformer', 'module', ArithmeticError),
        ('VisionTransformer', 'module', KeyboardInterrupt),
        ('VisionTransformer', 'grid', ValueError),
        ('SwinTransformer', 'module', ArithmeticError),
    ],
)
def test_backbone_is_stock_after_an_exception(type, where, error):
    backbone, images, share = toys.case(type)
    trace = LabelTrace(backbone)

    def fail(*args, **kwargs):
        raise error

    blocks = [m for m in backbone.modules() if hasattr(m, 'ffn')]
    if where == 'module':
        blocks[1].ffn.forward = fail  # late enough that shares have moved already
    before = snapshot(backbone)
    with pytest.raises(error):
        with trace(share[:, 1:] if where == 'grid' else share):
            backbone(images)
            fail()
    assert_untouched(backbone, before)
    if where != 'body':
        with pytest.raises(RuntimeError):
            trace.output_share

    # and the trace is as good as new
    vars(blocks[1].ffn).pop('forward', None)
    with trace(share):
        backbone(images)
    assert trace.output_share.shape == (2,)


def test_trace_adds_no_keys_and_no_hooks():
    # torch.compile does not guard on hooks of inner modules
    model = nn.Module()
    model.backbone, images, share = toys.case()
    before = {key: value.shape for key, value in model.state_dict().items()}
    model.trace = LabelTrace(model.backbone)
    assert list(model.children()) == [model.backbone]
    with model.trace(share):
        model.backbone(images)
        assert {key: value.shape for key, value in model.state_dict().items()} == before
        for module in model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks


# What is refused, with both numbers.


@pytest.mark.parametrize(
    'type, size, shape, expected',
    [
        ('VisionTransformer', 16, (2, 2, 8), (2, 4, 4)),
        ('SwinTransformer', 16, (2, 3, 5), (2, 8, 8)),
        # the grid of this forward, not what the backbone was built for
        ('VisionTransformer', (24, 8), (2, 4, 4), (2, 6, 2)),
        ('VisionTransformer', 16, (1, 4, 4), (2, 4, 4)),
    ],
)
def test_batch_and_grid_are_compared(type, size, shape, expected):
    trace, images = LabelTrace(toys.case(type)[0]), toys.images(size=size)
    with pytest.raises(ValueError) as error:
        with trace(torch.ones(shape)):
            trace.backbone(images)
    assert str(shape) in str(error.value) and str(expected) in str(error.value)
    with trace(torch.ones(expected)):
        trace.backbone(images)


def with_one(value):
    share = toys.shares()
    share[1, 2, 3] = value
    return share


@pytest.mark.parametrize(
    'share, error, word',
    [
        (with_one(-0.25), ValueError, '-0.25'),
        (with_one(1.25), ValueError, '1.25'),
        (with_one(float('nan')), ValueError, 'nan'),
        (torch.ones(2, 16), ValueError, r'\(2, 16\)'),
        (torch.ones(2, 4, 4, 1), ValueError, r'\(2, 4, 4, 1\)'),
        ([[[0.5]]], TypeError, 'but is a list'),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_shares_are_checked_before_anything_runs(share, error, word):
    with pytest.raises(error, match=word):
        LabelTrace(toys.vit())(share)


@pytest.mark.parametrize('propagation', [None, ['tlalign'], Propagation])
def test_what_is_no_propagation(propagation):
    with pytest.raises(TypeError, match='must be a name, a dict'):
        LabelTrace(toys.vit(), propagation=propagation)


def test_parts_are_given_to_a_propagation_that_needs_nothing_else():

    class Recorder(Propagation):
        needs = frozenset({'values'})
        seen = []

        def __call__(self, share, mixed, parts=None):
            self.seen.append(parts)
            return mixed

    backbone = toys.vit()
    with LabelTrace(backbone, propagation=Recorder())(toys.shares()):
        backbone(toys.images())
    assert len(Recorder.seen) == 3 and None not in Recorder.seen


@both
def test_traced_forward_does_not_read_values_back(type):
    # each would make a GPU wait for the host in every step
    class Reads(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    backbone, images, share = toys.case(type)
    trace = LabelTrace(backbone)
    trace(share)
    with trace, Reads():
        backbone(images)


NAMES = ('output_share', 'output_token_share', 'block_shares')


def test_what_is_read_too_early_or_not_kept():
    backbone, images, share = toys.case()
    trace, forgetful = LabelTrace(backbone, record=True), LabelTrace(backbone)
    backbone(images)
    with pytest.raises(RuntimeError):
        trace.output_share
    with trace(share):
        for name in NAMES:
            with pytest.raises(RuntimeError):
                getattr(trace, name)
        backbone(images)
        assert trace.output_share.shape == (2,)
    assert trace.output_share.shape == (2,)
    with forgetful(share):
        backbone(images)
    for name in NAMES[1:]:
        with pytest.raises(ValueError, match='record=True'):
            getattr(forgetful, name)


def never(block):
    """Let a block mix nothing."""
    block.forward = lambda x, *args: x


def twice(block):
    """Let a block run itself twice."""
    stock = block.forward
    block.forward = lambda x, *args: stock(stock(x, *args), *args)


@pytest.mark.parametrize(
    'type, changes, moved, expected',
    [
        ('VisionTransformer', [never], 2, 3),
        ('VisionTransformer', [twice], 4, 3),
        ('VisionTransformer', [never, twice], 3, 3),  # which add up
        ('SwinTransformer', [never], 4, 5),  # of four blocks and one merging
    ],
)
def test_number_of_moves_is_counted(type, changes, moved, expected):
    backbone, images, share = toys.case(type)
    trace = LabelTrace(backbone)
    blocks = backbone.layers if type == 'VisionTransformer' else backbone.stages[1].blocks
    for change, block in zip(changes, blocks[1:]):
        change(block)
    before = snapshot(backbone)
    message = rf'^{moved} times shares .* has {expected} modules .* modules replaced'
    with pytest.raises(RuntimeError, match=message):
        with trace(share):
            backbone(images)
    assert_untouched(backbone, before)
    with pytest.raises(RuntimeError, match='not a part such as'):
        trace.output_share


@both
def test_one_trace_at_a_time(type):
    backbone, images, share = toys.case(type)
    before = snapshot(backbone)
    trace, other = LabelTrace(backbone, record=True), LabelTrace(backbone)
    with trace(share):
        for enter in (lambda: trace(share).__enter__(), trace.__enter__, other(share).__enter__):
            with pytest.raises(RuntimeError):
                enter()
        backbone(images)
    assert_untouched(backbone, before)
    assert_equals_oracle(trace, backbone, images, share)
    # one after the other is fine
    with other(share):
        backbone(images)
    # without a record, only the rows that are read move in the last block
    assert_same(other.output_share, trace.output_share, 1e-6)


@both
def test_second_forward_starts_anew(type):
    backbone, images, share = toys.case(type)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images.flip(-1))
        first = trace.output_share
        kept = first.clone()
        backbone(images)
    assert_equals_oracle(trace, backbone, images, share)
    # and what was read before stays what it was
    assert torch.equal(first, kept)
    assert not torch.equal(first, trace.output_share)


@both
def test_gradient_accumulation(type):
    # two forwards before the backwards, so that the second must not disturb
    # what the first has kept
    backbone, images, share = toys.case(type)
    for image in images:
        loss_of(backbone(image[None])).backward()
    expected = gradients(backbone)

    trace = LabelTrace(backbone)
    losses = []
    for image, s in zip(images, share):
        with trace(s[None]):
            losses.append(loss_of(backbone(image[None])))
    for loss in losses:
        loss.backward()
    assert_same(gradients(backbone), expected)
