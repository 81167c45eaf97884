"""What every family of backbones promises, to be held against an oracle."""

import copy

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_equals,
    assert_equals_oracle,
    assert_same,
    assert_untouched,
    gradients,
    leaves,
    loss_of,
    snapshot,
)


class FamilyContract:
    """Tests of a family; a subclass makes a small backbone with fixed values.

    Attributes:
        oracle (Callable): As in :func:`assert_family`.
        exact (bool): As there. Defaults to True.
        size (int | tuple): Of images, unless a variant has another ``size``. Defaults to 16.
        patch (int): Side of the first tokens in pixels. Defaults to 4.
        variants (list[dict]): Options to try.
        checkpointed (list[str]): Modules to checkpoint.
        with_cp (dict, optional): Options with which the host checkpoints by itself.
        rates (dict): Of stochastic depth and dropout.
        watched (tuple[str]): What of 'class' and 'patches' can be watched. Defaults to both.
        watched_cfg (dict): Of the backbone then.
        modules (list[str]): Modules of which another class is refused.
        refused (list[tuple]): Options of the backbone and of the trace, and the error.
    """

    oracle = None
    exact = True
    size: int | tuple[int, int] = 16
    patch = 4
    variants: list[dict] = [{}]
    checkpointed: list[str]
    with_cp: dict | None = None
    rates = dict(drop_path_rate=0.5, drop_rate=0.2)
    watched: tuple[str, ...] = ('class', 'patches')
    watched_cfg: dict = {}
    modules: list[str]
    refused: list[tuple[dict, str]]

    def make(self, **cfg):
        raise NotImplementedError

    def grid(self, side):
        """How many tokens a side of an image has."""
        return -(-side // self.patch)

    def inputs(self, size=None, batch=2):
        images = toys.images(batch, size or self.size)
        return images, toys.shares(batch, tuple(map(self.grid, images.shape[2:])))

    def test_variant(self, variant):
        cfg = dict(variant)
        inputs = self.inputs(cfg.pop('size', None))
        assert_family(self.make(**cfg), *inputs, self.oracle, self.exact)

    @pytest.mark.slow
    def test_limits(self):
        backbone, (images, share) = self.make(), self.inputs()
        assert_limits(backbone, images, share)
        with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
            stock = leaves(backbone(images))
            with LabelTrace(backbone)(share):
                features = leaves(backbone(images))
        for ours, theirs in zip(features, stock, strict=True):
            assert ours.dtype == theirs.dtype
            assert_same(ours, theirs, 2e-2 * theirs.abs().max().item())

    @pytest.mark.slow
    def test_checkpointing(self, run_checkpoint):
        assert_checkpointing(self.make(), *self.inputs(), self.checkpointed)
        if self.with_cp:
            assert_checkpointing(self.make(), *self.inputs(), self.make(**self.with_cp))

    def test_other_modules_are_refused(self):
        backbone = self.make()
        for name in self.modules:
            module = backbone.get_submodule(name)
            stock = type(module)
            module.__class__ = type('Other', (stock,), dict(forward=lambda self, *args: None))
            with pytest.raises(TypeError, match=f'^{name} is a Other of .* overrides forward;'):
                LabelTrace(backbone)
            module.__class__ = stock
        LabelTrace(backbone)

    def test_refused(self, refused):
        cfg, message = dict(refused[0]), refused[1]
        options = {name: cfg.pop(name) for name in ('propagation', 'watch') if name in cfg}
        with pytest.raises((TypeError, ValueError), match=message) as error:
            LabelTrace(self.make(**cfg), **options)
        assert '\n' not in str(error.value)

    def test_random_depth_and_dropout(self):
        """Outside attention they move no share.

        The oracle repeats their draws in the type of the traced forward alone.
        """
        backbone = self.make(**self.rates)
        backbone.train()  # returns None in the host
        images, share = self.inputs(batch=4)
        trace = LabelTrace(backbone, record=True)
        torch.manual_seed(1)
        stock = backbone(images)
        torch.manual_seed(1)
        with trace(share):
            assert_same(backbone(images), stock)
        torch.manual_seed(1)
        assert_equals(trace, copy.deepcopy(backbone), images, share, 1e-5, self.oracle)

    def test_watch(self):
        """Rows of a matrix that sum to one, less what goes to extra tokens."""
        for watch in ('class', 'patches'):
            if watch not in self.watched:
                message = "needs attention over all tokens|has no class .*; use watch='patches'"
                with pytest.raises(ValueError, match=message) as error:
                    LabelTrace(self.make(**self.watched_cfg), watch=watch)
                assert '\n' not in str(error.value)
                continue
            trace = LabelTrace(self.make(**self.watched_cfg), record=True, watch=watch)
            images, share = self.inputs()
            with trace(share):
                trace.backbone(images)
            read = trace.output_token_share
            assert trace.attention.shape == read.flatten(1).shape and trace.grid == read.shape[1:]
            assert (trace.attention > 0).all()
            whole = trace.attention.sum(1)
            if trace.family.num_extra_tokens:
                assert (whole < 1).all()
            else:
                assert_same(whole, torch.ones(2))


def assert_family(backbone, images, token_share, oracle, exact=True):
    """Features, gradients and shares are right, and nothing is left behind.

    Args:
        backbone (nn.Module): Without dropout; a copy is never needed.
        images (Tensor): (B, 3, H, W).
        token_share (Tensor): (B, rows, cols) on the first grid.
        oracle (Callable): ``(backbone in float64, images, token_labels (B,
            rows, cols, K))`` -> labels after each block (list of (B, N, K))
            and of what the head reads (B, K).
        exact (bool): Whether features are bit-equal (the matrix is caught),
            or within 1e-5 (attention is fused). Defaults to True.
    """
    trace = LabelTrace(backbone, record=True)
    assert_stock(trace, images, token_share, exact)
    assert_equals_oracle(trace, backbone, images, token_share, oracle=oracle)
    # labels must have moved, or the comparison could not fail
    assert (trace.output_share - token_share.mean((1, 2))).abs().max() > 1e-3


def assert_stock(trace, images, token_share, exact):
    """Features and gradients are those of the stock backbone, and nothing is left behind."""
    backbone = trace.backbone
    before, keys = snapshot(backbone), list(backbone.state_dict())
    stock = backbone(images)
    loss_of(stock).backward()
    expected = gradients(backbone)
    with trace(token_share):
        features = backbone(images)
    loss_of(features).backward()
    for ours, theirs in zip(leaves(features), leaves(stock), strict=True):
        assert torch.equal(ours, theirs) if exact else True
        assert_same(ours, theirs)
    assert_same(gradients(backbone), expected)
    assert list(backbone.state_dict()) == keys
    assert_untouched(backbone, before)


def assert_limits(backbone, images, token_share, near=5e-3, **options):
    """Constants stay, complements do, samples do not meet, half precision is ``near``, and copies
    follow their own backbone."""
    trace = LabelTrace(backbone, record=True, **options)
    twin = copy.deepcopy(trace)
    assert twin.backbone is not backbone

    def moved(trace, share, half=False, images=images):
        with torch.autocast('cpu', torch.bfloat16, enabled=half), torch.no_grad(), trace(share):
            trace.backbone(images)
        assert trace.output_share.dtype == torch.float32
        return [trace.output_share, *trace.block_shares]

    expected = moved(trace, token_share)
    found = (
        moved(twin, token_share),
        [x.flip(0) for x in moved(trace, token_share.flip(0), images=images.flip(0))],
    )
    assert_same(found, (expected, expected), 1e-6)
    for own, partner in zip(expected, moved(trace, 1 - token_share)):
        # a propagation may cut shares at 0 and 1
        inside = (own > 0) & (own < 1) & (partner > 0) & (partner < 1)
        assert inside.float().mean() > 0.5
        assert (own + partner - 1)[inside].abs().max() < 2e-6
    last = LabelTrace(backbone, **options)
    with torch.no_grad(), last(token_share):
        backbone(images)
    assert_same(last.output_share, expected[0], 1e-6)  # the rows that are read alone
    assert (moved(trace, token_share, half=True)[0] - expected[0]).abs().max() < near
    for half, constant in ((False, 0.0), (False, 0.3), (True, 0.3), (True, 1.0)):
        for found in moved(trace, torch.full_like(token_share, constant), half):
            assert (found - constant).abs().max() < 2e-6


def assert_checkpointing(backbone, images, token_share, twin, forward=None, **options):
    """A checkpointed twin gives the gradients and shares of the plain backbone.

    Args:
        twin (list[str] | nn.Module): The twin, or names of modules to checkpoint, by the kind that
            the fixture ``run_checkpoint`` makes.
        forward (Callable, optional): What calls the twin. Defaults to None, itself.
        options: Of LabelTrace.
    """
    trace = LabelTrace(backbone, **options)
    with trace(token_share):
        loss_of(backbone(images)).backward()
    expected, share = gradients(backbone), trace.output_share
    if isinstance(twin, list):
        names, twin = twin, copy.deepcopy(backbone)
        turn_on_activation_checkpointing(twin, names)
    forward, before = forward or twin, snapshot(twin)
    # or the reentrant kind passes no gradient to the first module
    images = images.clone().requires_grad_()
    trace = LabelTrace(twin, **options)
    for inside in (True, False):
        with trace(token_share):
            loss = loss_of(forward(images))
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert_same(gradients(twin), expected)
        assert_same(trace.output_share, share, 1e-6)
    assert_untouched(twin, before)
