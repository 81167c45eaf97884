"""What every family of backbones promises, to be held against an oracle.

A test of a family makes a small backbone with fixed values (``toys.fill``)
and hands it to :func:`assert_family` with an oracle of its own.
"""

import copy

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch._dynamo.utils import counters

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_all_moved,
    assert_moved,
    assert_same,
    assert_untouched,
    gradients,
    leaves,
    loss_of,
    snapshot,
)


def assert_family(backbone, images, token_share, oracle, exact=True):
    """Features, gradients, shares, constants, and nothing left behind.

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
    before, keys = snapshot(backbone), list(backbone.state_dict())
    stock = backbone(images)
    loss_of(stock).backward()
    expected = gradients(backbone)

    trace = LabelTrace(backbone, record=True)
    with trace(token_share):
        features = backbone(images)
    loss_of(features).backward()
    for ours, theirs in zip(leaves(features), leaves(stock), strict=True):
        assert torch.equal(ours, theirs) if exact else True
        assert_same(ours, theirs)
    assert_same(gradients(backbone), expected)
    assert list(backbone.state_dict()) == keys
    assert_untouched(backbone, before)

    own, partner = toys.class_labels(len(images))
    with torch.no_grad():
        blocks, aligned = oracle(
            copy.deepcopy(backbone).double(),
            images.double(),
            toys.to_labels(token_share, own, partner),
        )
    assert_all_moved(trace, blocks, aligned, own, partner, 2e-6)

    blocks_of = [site for site in trace.family.sites if site.in_block]
    if trace.family.output in blocks_of:  # not a merging
        labels = blocks[blocks_of.index(trace.family.output)]
        labels = labels[:, trace.family.num_extra_tokens :]
        assert_moved(trace.output_token_share.flatten(1), labels, own, partner, 2e-6)

    # labels must have moved, or the comparison could not fail
    assert (trace.output_share - token_share.mean((1, 2))).abs().max() > 1e-3

    constant = torch.full_like(token_share, 0.3)
    plain = LabelTrace(backbone)
    with plain(constant):
        backbone(images)
    assert (plain.output_share - 0.3).abs().max() < 1e-5
    with plain(token_share):
        backbone(images)
    assert_same(plain.output_share, trace.output_share, 1e-6)

    assert_copies(backbone, images, token_share, trace.output_share)
    assert_half_precision(backbone, images, token_share, trace.output_share)


def assert_copies(backbone, images, token_share, expected):
    """A copy of a trace follows the copied backbone."""
    trace = LabelTrace(backbone)
    twin = copy.deepcopy(trace)
    assert twin.backbone is not backbone
    with trace(token_share), twin(token_share):
        twin.backbone(images)
    assert_same(twin.output_share, expected, 1e-6)


def assert_half_precision(backbone, images, token_share, expected):
    """Under bfloat16 autocast the output share stays within 5e-3."""
    trace = LabelTrace(backbone)
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        with trace(token_share):
            backbone(images)
    assert trace.output_share.dtype == torch.float32
    assert (trace.output_share - expected).abs().max() < 5e-3
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        with trace(torch.full_like(token_share, 0.3)):
            backbone(images)
    assert (trace.output_share - 0.3).abs().max() < 1e-5


def assert_checkpointing(
    backbone, images, token_share, modules, run_checkpoint, propagation='tlalign'
):
    """Checkpointed parts give the gradients and shares of the plain one.

    Args:
        modules (list[str]): Names of the modules to checkpoint.
        run_checkpoint: The fixture of this folder's conftest, which makes
            checkpointing of one kind.
        propagation (str | dict): See LabelTrace. Defaults to 'tlalign'.
    """
    trace = LabelTrace(backbone, propagation=propagation)
    with trace(token_share):
        loss_of(backbone(images)).backward()
    expected, share = gradients(backbone), trace.output_share
    twin = copy.deepcopy(backbone)
    turn_on_activation_checkpointing(twin, modules)
    images = images.clone().requires_grad_()  # or the reentrant kind does
    for inside in (True, False):  # nothing in the first module
        trace = LabelTrace(twin, propagation=propagation)
        with trace(token_share):
            loss = loss_of(twin(images))
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert_same(gradients(twin), expected)
        assert_same(trace.output_share, share, 1e-6)


def assert_compiles(backbone, images, token_share, propagation='tlalign'):
    """No more graph breaks than the stock backbone has."""
    backbone.eval()
    for module in backbone.modules():
        if isinstance(module, DropPath):  # numpy floats break graphs
            module.drop_prob = float(module.drop_prob or 0)
    trace = LabelTrace(backbone, propagation=propagation)
    with trace(token_share):
        features = backbone(images)
    share, breaks = trace.output_share, []
    for traced in (False, True):
        torch._dynamo.reset()
        counters.clear()
        # graphs break before any backend sees them
        compiled = torch.compile(backbone, backend='aot_eager' if traced else 'eager')
        if traced:
            with trace(token_share):
                found = compiled(images)
        else:
            found = compiled(images)
        assert_same(found, features)
        breaks.append(sum(counters['graph_break'].values()))
    torch._dynamo.reset()
    assert breaks[1] <= breaks[0]
    assert_same(trace.output_share, share, 1e-6)
