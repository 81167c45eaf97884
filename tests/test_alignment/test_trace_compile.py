"""Shares and ``torch.compile`` of the backbone."""

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch._dynamo.utils import counters

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients, loss_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def make(type='VisionTransformer'):
    """A backbone with random depth in evaluation mode, images and shares.

    The stock ViT keeps its drop rates as numpy floats, over which the
    compiler breaks the graph in every layer; here they are Python's.
    """
    if type == 'timm':
        return toys.timm_vit(depth=2).eval(), toys.images(), toys.shares()
    arch = dict(num_layers=2) if type == 'VisionTransformer' else dict(depths=[2, 1])
    backbone, images, share = toys.case(type, arch=arch, drop_path_rate=0.1)
    backbone.eval()  # returns None in the host
    for module in backbone.modules():
        if isinstance(module, DropPath):
            module.drop_prob = float(module.drop_prob)
    return backbone, images, share


def graph_breaks():
    return sum(counters['graph_break'].values())


@pytest.mark.parametrize(
    'type, propagation, first',
    [
        ('VisionTransformer', 'tlalign', 'untraced'),
        ('SwinTransformer', 'tlalign', 'traced'),
        ('timm', 'contribution', None),  # no stock graph besides
    ],
)
def test_compiled_backbone(type, propagation, first):
    backbone, images, share = make(type)
    stock = backbone(images)
    loss_of(stock).backward()
    expected = gradients(backbone)

    compiled = torch.compile(backbone, backend='aot_eager')
    if first == 'untraced':
        assert_same(compiled(images), stock)
    trace = LabelTrace(backbone, record=True, propagation=propagation)
    # other shares the second time: nothing of the first is baked in
    for token_share in (share, share.flip(-1)):
        with trace(token_share):
            features = compiled(images)
        loss_of(features).backward()
        assert_same(features, stock)
        assert_same(gradients(backbone), expected)
        kept = trace.block_shares
        if first:
            assert_same(compiled(images), stock)
            assert trace.block_shares[0] is kept[0]
        with trace(token_share):
            backbone(images)
        for ours, theirs in zip(kept, trace.block_shares):
            assert_same(ours, theirs, 1e-6)
    assert graph_breaks() == 0


def test_no_more_graph_breaks_than_stock():
    # with the numpy floats of the stock backbone, and as many layers as
    # DeiT: parts of a broken graph are shared by the layers, so that a value
    # that differs between layers would have them compiled anew until the
    # compiler gives up
    backbone = toys.vit(arch=dict(num_layers=12), drop_path_rate=0.1)
    backbone.eval()
    images, share = toys.images(), toys.shares()
    stock = torch.compile(backbone, backend='eager')(images)
    stock_breaks = graph_breaks()
    assert stock_breaks

    torch._dynamo.reset()
    counters.clear()
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        features = torch.compile(backbone, backend='eager')(images)
    assert graph_breaks() <= stock_breaks
    assert_same(features, stock)
    assert_equals_oracle(trace, backbone, images, share)


def test_step_compiled_with_its_trace():
    # what mmengine's `compile` option does: the whole step
    backbone, images, share = make()
    stock = backbone(images)
    trace = LabelTrace(backbone, record=True)

    @torch.compile(backend='aot_eager')
    def step(images, share):
        with trace(share):
            features = backbone(images)
        return features, trace.output_share

    for share in (share, share.flip(-1)):
        features, moved = step(images, share)
        assert_same(features, stock)
        assert_same(moved, trace.output_share)
        assert_equals_oracle(trace, backbone, images, share)
