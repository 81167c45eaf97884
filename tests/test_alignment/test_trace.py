"""The contract of ``LabelTrace``, sentence by sentence."""

import inspect
import weakref

import mmpretrain.models
import pytest
import torch
from mmengine.model import BaseModule
from mmpretrain.models import ImageClassifier, SwinTransformer, VisionTransformer
from mmpretrain.models.utils import MultiheadAttention
from torch import nn

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_equals_oracle,
    assert_labels_follow,
    assert_same,
    assert_untouched,
    gradients,
    loss_of,
    snapshot,
)

SUPPORTED = (
    'VisionTransformer',
    'DistilledVisionTransformer',
    'DeiT3',
    'SwinTransformer',
    'SwinTransformerV2',
)
MAKERS = {
    'VisionTransformer': toys.vit,
    'DistilledVisionTransformer': toys.vit,
    'DeiT3': toys.vit,
    'SwinTransformer': toys.swin,
    'SwinTransformerV2': toys.swin,
}
# inputs that suit both: 4 x 4 patches for the ViTs, 8 x 8 for the Swins
GRID = dict.fromkeys(SUPPORTED[:3], 4) | dict.fromkeys(SUPPORTED[3:], 8)
FAMILIES = ('VisionTransformer', 'SwinTransformer')


def make(type, **cfg):
    """Backbone, images and shares of one class by name."""
    backbone = MAKERS[type](type, **cfg)
    return backbone, toys.images(), toys.shares(grid=GRID[type])


# What it gives.


@pytest.mark.parametrize('type', SUPPORTED)
def test_output_share_is_float32_and_detached(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone)
    with trace(share.double().requires_grad_()):
        backbone(images)
    assert trace.output_share.dtype == torch.float32
    assert trace.output_share.shape == (2,)
    assert not trace.output_share.requires_grad


@pytest.mark.parametrize('type', FAMILIES)
def test_block_shares_are_tokens_per_block(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    sizes = dict(VisionTransformer=[17] * 3, SwinTransformer=[64, 64, 16, 16])[type]
    assert [tuple(s.shape) for s in trace.block_shares] == [(2, size) for size in sizes]
    assert not any(s.requires_grad for s in trace.block_shares)


@pytest.mark.parametrize(
    'type, cfg, head_reads',
    [
        ('VisionTransformer', dict(out_type='cls_token'), lambda s: s[:, 0]),
        ('VisionTransformer', dict(out_type='raw'), lambda s: s[:, 0]),
        ('VisionTransformer', dict(out_type='avg_featmap'), lambda s: s[:, 1:].mean(1)),
        ('SwinTransformer', {}, lambda s: s.mean(1)),
    ],
)
def test_blocks_are_read_as_the_output_is(type, cfg, head_reads):
    backbone, images, share = make(type, **cfg)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    for block in trace.block_shares:
        assert_same(trace.read(block), head_reads(block))
    assert_same(trace.read(trace.block_shares[-1]), trace.output_share)


@pytest.mark.parametrize(
    'type, cfg, block, grid',
    [
        ('VisionTransformer', {}, 2, (4, 4)),
        ('VisionTransformer', dict(out_indices=(0, 1)), 1, (4, 4)),
        ('DistilledVisionTransformer', {}, 2, (4, 4)),
        ('SwinTransformer', {}, 3, (4, 4)),
        ('SwinTransformer', dict(out_indices=(0,)), 1, (8, 8)),
    ],
)
def test_shares_of_the_tokens_that_are_read(type, cfg, block, grid):
    backbone, images, share = make(type, **cfg)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    found = trace.output_token_share
    assert found.shape == (2, *grid) and not found.requires_grad
    rows, cols = grid
    expected = trace.block_shares[block][:, -rows * cols :]
    for row in range(rows):
        for col in range(cols):
            assert torch.equal(found[:, row, col], expected[:, row * cols + col])


def test_shares_of_tokens_after_a_merging():
    backbone, images, share = make('SwinTransformer', out_indices=(0,), out_after_downsample=True)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        (features,) = backbone(images)
    assert trace.output_token_share.shape == (2, *features.shape[2:])
    assert_same(trace.output_token_share.mean((1, 2)), trace.output_share)


def test_class_token_starts_with_the_mean_over_patches():
    # zero queries attend evenly, so each token ends half-way to the mean
    backbone, images, share = make('VisionTransformer', arch=dict(num_layers=1))
    for parameter in backbone.layers[0].attn.qkv.parameters():
        parameter.data.zero_()
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    mean = share.flatten(1).mean(1, keepdim=True)
    assert_same(trace.output_share, mean[:, 0])
    assert_same(trace.block_shares[0][:, 1:], (share.flatten(1) + mean) / 2)


@pytest.mark.parametrize('type', FAMILIES)
def test_no_gradient_flows_through_shares(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    share.requires_grad_()
    with trace(share):
        loss_of(backbone(images)).backward()
    assert share.grad is None
    assert not any(s.requires_grad for s in [trace.output_share, *trace.block_shares])


@pytest.mark.parametrize('type', FAMILIES)
def test_shares_of_the_caller_are_not_changed(type):
    backbone, images, share = make(type)
    before = share.clone()
    with LabelTrace(backbone)(share):
        backbone(images)
    assert torch.equal(share, before)


@pytest.mark.parametrize('type', FAMILIES)
def test_forward_of_a_trace_does_not_draw_random_numbers(type):
    backbone, images, share = make(type)
    state = torch.get_rng_state()
    with LabelTrace(backbone)(share):
        backbone(images)
    assert torch.equal(torch.get_rng_state(), state)


def test_double_precision():
    backbone, images, share = make('VisionTransformer')
    backbone.double()
    stock = backbone(images.double())
    features = assert_labels_follow(backbone, images.double(), share)
    torch.testing.assert_close(features, stock, rtol=0, atol=1e-12)


# Outside `with` the backbone is the stock one.


@pytest.mark.parametrize('type', SUPPORTED)
def test_backbone_is_stock_outside(type):
    backbone, images, share = make(type)
    before = snapshot(backbone)
    trace = LabelTrace(backbone)
    assert_untouched(backbone, before)
    with trace(share):
        backbone(images)
    assert_untouched(backbone, before)


@pytest.mark.parametrize('type', FAMILIES)
@pytest.mark.parametrize('where', ['body', 'module', 'grid', 'interrupt'])
def test_backbone_is_stock_after_an_exception(type, where):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone)

    def fail(*args, **kwargs):
        raise KeyboardInterrupt if where == 'interrupt' else ArithmeticError

    if where in ('module', 'interrupt'):
        # late enough that shares have moved already
        blocks = [m for m in backbone.modules() if hasattr(m, 'ffn')]
        blocks[1].ffn.forward = fail
    before = snapshot(backbone)
    errors = dict(
        body=ArithmeticError, module=ArithmeticError, grid=ValueError, interrupt=KeyboardInterrupt
    )
    with pytest.raises(errors[where]):
        with trace(share[:, 1:] if where == 'grid' else share):
            backbone(images)
            fail()
    assert_untouched(backbone, before)
    if where != 'body':
        with pytest.raises(RuntimeError):
            trace.output_share

    # and the trace is as good as new
    for block in backbone.modules():
        vars(block).pop('forward', None)
    with trace(share):
        backbone(images)
    assert trace.output_share.shape == (2,)


@pytest.mark.parametrize('type', SUPPORTED)
def test_state_dict_keeps_keys_and_shapes(type):
    backbone, images, share = make(type)

    def shapes():
        return {k: v.shape for k, v in backbone.state_dict().items()}

    before = shapes()
    trace = LabelTrace(backbone)
    assert shapes() == before
    with trace(share):
        backbone(images)
        assert shapes() == before
    assert shapes() == before


def test_trace_as_attribute_adds_no_keys():
    model = nn.Module()
    model.backbone = toys.vit()
    before = model.state_dict().keys()
    model.trace = LabelTrace(model.backbone)
    assert model.state_dict().keys() == before
    assert list(model.children()) == [model.backbone]


@pytest.mark.parametrize('type', FAMILIES)
def test_no_hooks_on_inner_modules(type):
    # torch.compile does not guard on them
    backbone, images, share = make(type)
    with LabelTrace(backbone)(share):
        backbone(images)
        for module in backbone.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_trace_is_a_plain_object():
    trace = LabelTrace(toys.vit())
    assert not isinstance(trace, nn.Module)

    seen, rest = set(), [trace]
    while rest:
        value = rest.pop()
        if id(value) in seen or isinstance(value, nn.Module):
            continue
        seen.add(id(value))
        assert not isinstance(value, weakref.ReferenceType)
        if inspect.isfunction(value):
            assert value.__closure__ is None
        if isinstance(value, (list, tuple, set)):
            rest.extend(value)
        else:
            rest.extend(getattr(value, '__dict__', {}).values())


# What is refused at construction.

VIT = dict(arch=toys.VIT, img_size=16, patch_size=4)
REFUSED = dict(
    ResNet=dict(depth=18),
    ConvNeXt=dict(arch='atto'),
    BEiTPretrainViT=VIT,
    MAEViT=VIT,
    MILANViT=VIT,
    MFFViT=dict(VIT, out_indices=[2]),
    SimMIMSwinTransformer=dict(arch=toys.SWIN, img_size=32, out_indices=(1,)),
)


@pytest.mark.parametrize('type', REFUSED)
def test_other_backbones_are_refused(type):
    backbone = getattr(mmpretrain.models, type)(**REFUSED[type])
    with pytest.raises(TypeError, match=rf'\b{type}\b') as error:
        LabelTrace(backbone)
    for name in SUPPORTED:
        assert name in str(error.value)


def test_other_modules_are_refused():
    classifier = ImageClassifier(dict(type='ResNet', depth=18))
    with pytest.raises(TypeError, match='ImageClassifier'):
        LabelTrace(classifier)
    with pytest.raises(TypeError, match='Linear'):
        LabelTrace(nn.Linear(2, 2))


class Renamed(VisionTransformer):
    """A subclass that computes what its parent computes."""


class Changed(VisionTransformer):
    """A subclass that might compute anything."""

    def forward(self, x):
        return super().forward(x)


class ChangedSwin(SwinTransformer):
    def forward(self, x):
        return super().forward(x)


def test_subclass_without_a_forward_is_accepted():
    backbone = toys.fill(Renamed(**VIT))
    assert_labels_follow(backbone, toys.images(), toys.shares())


@pytest.mark.parametrize(
    'backbone', [Changed(**VIT), ChangedSwin(toys.SWIN, out_indices=(1,))], ids=['vit', 'swin']
)
def test_subclass_with_a_forward_is_refused(backbone):
    with pytest.raises(TypeError, match=type(backbone).__name__) as error:
        LabelTrace(backbone)
    assert 'SwinTransformerV2' in str(error.value)


def swin_attention(**cfg):
    return dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=cfg)))


def test_broken_output_of_the_host_is_refused():
    with pytest.raises(ValueError, match='avg_featmap') as error:
        LabelTrace(toys.vit('DeiT3', out_type='avg_featmap'))
    assert 'mmpretrain' in str(error.value)


@pytest.mark.parametrize(
    'type, cfg, name',
    [
        ('VisionTransformer', dict(layer_cfgs=dict(attn_drop_rate=0.1)), r'layers\.0\.attn'),
        ('DeiT3', dict(layer_cfgs=[dict(), dict(attn_drop_rate=0.1), dict()]), r'layers\.1\.attn'),
        ('SwinTransformer', swin_attention(attn_drop=0.1), r'stages\.0\.blocks\.0\.attn'),
        ('SwinTransformerV2', swin_attention(attn_drop=0.1), r'stages\.0\.blocks\.0\.attn'),
    ],
)
def test_attention_dropout_is_refused(type, cfg, name):
    with pytest.raises((TypeError, ValueError), match=name) as error:
        LabelTrace(MAKERS[type](type, **cfg))
    assert '0.1' in str(error.value)


def test_qk_scale_of_a_vit_is_refused():
    backbone = toys.vit()
    backbone.layers[1].attn = MultiheadAttention(32, 2, qk_scale=0.3)
    with pytest.raises((TypeError, ValueError), match=r'layers\.1\.attn') as error:
        LabelTrace(backbone)
    assert 'qk_scale' in str(error.value)


@pytest.mark.parametrize('type', ['SwinTransformer', 'SwinTransformerV2'])
@pytest.mark.parametrize(
    'cfg, value',
    [
        (dict(kernel_size=3, stride=2), '(3, 3)'),
        (dict(kernel_size=2, stride=3), '(2, 2)'),
        (dict(padding=1), '(1, 1)'),
        (dict(dilation=2), '(2, 2)'),
    ],
)
def test_merging_that_is_no_partition_is_refused(type, cfg, value):
    number = 0 if type == 'SwinTransformer' else 1
    backbone = toys.swin(type, stage_cfgs=dict(downsample_cfg=cfg))
    with pytest.raises((TypeError, ValueError), match=rf'stages\.{number}\.downsample') as error:
        LabelTrace(backbone)
    assert value in str(error.value)


class OtherAttention(MultiheadAttention):
    def forward(self, x):
        return super().forward(x)


def test_inner_module_that_is_not_stock_is_refused():
    backbone = toys.vit()
    backbone.layers[2].attn = OtherAttention(32, 2)
    with pytest.raises(TypeError, match='OtherAttention') as error:
        LabelTrace(backbone)
    assert 'layers.2.attn' in str(error.value)


def test_nothing_is_touched_by_a_refusal():
    backbone = toys.vit()
    backbone.layers[2].attn = OtherAttention(32, 2)
    before = snapshot(backbone)
    with pytest.raises(TypeError):
        LabelTrace(backbone)
    assert_untouched(backbone, before)


# What is refused later, with both numbers.


@pytest.mark.parametrize('type', FAMILIES)
@pytest.mark.parametrize('shape', [(3, 5), (5, 3), (2, 8), (16, 1)])
def test_grid_is_compared_with_patch_embed(type, shape):
    backbone, images, _ = make(type)
    with pytest.raises(ValueError) as error:
        with LabelTrace(backbone)(torch.ones(2, *shape)):
            backbone(images)
    grid = GRID[type]
    assert f'{shape[0]}, {shape[1]}' in str(error.value)
    assert f'{grid}, {grid}' in str(error.value)


def test_grid_is_that_of_this_forward():
    # rows and columns are not what the backbone was built for
    backbone = toys.vit()
    images = toys.images(size=(24, 8))
    trace = LabelTrace(backbone)
    with trace(toys.shares(grid=(6, 2))):
        backbone(images)
    with pytest.raises(ValueError, match='4, 4'):
        with trace(toys.shares(grid=4)):
            backbone(images)


@pytest.mark.parametrize('type', FAMILIES)
@pytest.mark.parametrize('batch', [1, 3])
def test_batch_is_compared(type, batch):
    backbone, images, _ = make(type)
    share = toys.shares(batch, GRID[type])
    with pytest.raises(ValueError, match=rf'\b{batch}\b') as error:
        with LabelTrace(backbone)(share):
            backbone(images)
    assert '2, ' in str(error.value)


@pytest.mark.parametrize('value', [-0.25, 1.25, float('nan'), float('inf')])
def test_values_are_checked_before_anything_runs(value):
    backbone, images, share = make('VisionTransformer')
    share[1, 2, 3] = value
    trace = LabelTrace(backbone)
    before = snapshot(backbone)
    with pytest.raises(ValueError, match=str(value)):
        with trace(share):
            pytest.fail('entered with bad shares')
    assert_untouched(backbone, before)


@pytest.mark.parametrize('shape', [(2, 16), (2, 4, 4, 1), (4,), ()], ids=str)
def test_shape_is_checked(shape):
    trace = LabelTrace(toys.vit())
    with pytest.raises(ValueError) as error:
        with trace(torch.ones(shape)):
            pytest.fail('entered with bad shares')
    assert str(tuple(shape)) in str(error.value)


@pytest.mark.parametrize('type', FAMILIES)
def test_traced_forward_does_not_read_values_back(type):
    # each would make a GPU wait for the host in every step
    class Reads(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    backbone, images, share = make(type)
    trace = LabelTrace(backbone)
    trace(share)
    with trace, Reads():
        backbone(images)


def test_share_before_any_traced_forward():
    backbone, images, share = make('VisionTransformer')
    trace = LabelTrace(backbone, record=True)
    backbone(images)
    names = ('output_share', 'output_token_share', 'block_shares')
    for name in names:
        with pytest.raises(RuntimeError):
            getattr(trace, name)
    with trace(share):
        for name in names:
            with pytest.raises(RuntimeError):
                getattr(trace, name)
        backbone(images)
        assert trace.output_share.shape == (2,)
    assert trace.output_share.shape == (2,)


def test_block_shares_need_record():
    backbone, images, share = make('VisionTransformer')
    trace = LabelTrace(backbone)
    with pytest.raises(ValueError, match='record=True'):
        trace.block_shares
    with trace(share):
        backbone(images)
    for name in ('block_shares', 'output_token_share'):
        with pytest.raises(ValueError, match='record=True'):
            getattr(trace, name)


class Nothing(BaseModule):
    """A block that mixes nothing."""

    def forward(self, x, *args):
        return x


class Twice(BaseModule):
    """A block that runs another one twice."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x, *args):
        return self.block(self.block(x, *args), *args)


@pytest.mark.parametrize(
    'type, change, moved, expected',
    [
        ('VisionTransformer', Nothing, 2, 3),
        ('VisionTransformer', Twice, 4, 3),
        ('SwinTransformer', Nothing, 4, 5),
        ('SwinTransformer', Twice, 6, 5),
        ('SwinTransformerV2', Nothing, 4, 5),
    ],
)
def test_number_of_moves_is_counted(type, change, moved, expected):
    # a Swin counts its four blocks and one merging
    backbone, images, share = make(type)
    trace = LabelTrace(backbone)
    blocks = backbone.layers if type == 'VisionTransformer' else backbone.stages[1].blocks
    blocks[1] = change() if change is Nothing else change(blocks[1])
    before = snapshot(backbone)
    with pytest.raises(RuntimeError, match=rf'\b{moved}\b') as error:
        with trace(share):
            backbone(images)
    assert str(expected) in str(error.value)
    assert_untouched(backbone, before)
    with pytest.raises(RuntimeError):
        trace.output_share


@pytest.mark.parametrize('type', FAMILIES)
def test_trace_entered_twice(type):
    backbone, images, share = make(type)
    before = snapshot(backbone)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        with pytest.raises(RuntimeError):
            with trace(share):
                pytest.fail('entered twice')
        backbone(images)
    assert_untouched(backbone, before)
    assert_equals_oracle(trace, backbone, images, share)


@pytest.mark.parametrize('type', FAMILIES)
def test_two_traces_on_one_backbone(type):
    backbone, images, share = make(type)
    before = snapshot(backbone)
    trace, other = LabelTrace(backbone, record=True), LabelTrace(backbone)
    with trace(share):
        with pytest.raises(RuntimeError):
            with other(share):
                pytest.fail('traced twice')
        backbone(images)
    assert_untouched(backbone, before)
    assert_equals_oracle(trace, backbone, images, share)
    # one after the other is fine
    with other(share):
        backbone(images)
    # without a record, only the rows that are read move in the last block
    assert_same(other.output_share, trace.output_share, 1e-6)


@pytest.mark.parametrize('type', FAMILIES)
def test_second_forward_starts_anew(type):
    backbone, images, share = make(type)
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


def test_trace_can_be_used_again():
    backbone, images, share = make('VisionTransformer')
    trace = LabelTrace(backbone, record=True)
    for share in (share, share.flip(-1)):
        with trace(share):
            backbone(images)
        assert_equals_oracle(trace, backbone, images, share)


@pytest.mark.parametrize('types', [FAMILIES, FAMILIES[:1] * 2])
def test_two_backbones_at_once(types):
    backbones, traces = [], []
    for seed, type in enumerate(types):
        backbones.append(MAKERS[type](type, seed))
        traces.append(LabelTrace(backbones[-1], record=True))
    images = toys.images()
    first, second = (toys.shares(grid=GRID[t], seed=i) for i, t in enumerate(types))
    with traces[0](first):
        with traces[1](second):
            backbones[0](images)
            backbones[1](images)
        backbones[1](images)
    assert_equals_oracle(traces[0], backbones[0], images, first)
    assert_equals_oracle(traces[1], backbones[1], images, second)


# Limits.


@pytest.mark.parametrize('type', SUPPORTED)
@pytest.mark.parametrize('constant', [0.0, 1.0, 0.3])
def test_constant_share_stays_constant(type, constant):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    with trace(torch.full_like(share, constant)):
        backbone(images)
    for moved in [trace.output_share, *trace.block_shares]:
        assert (moved - constant).abs().max() <= 1e-5


@pytest.mark.parametrize('type', SUPPORTED)
def test_share_of_the_partner_is_the_complement(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    own = trace.block_shares
    with trace(1 - share):
        backbone(images)
    for mine, other in zip(own, trace.block_shares, strict=True):
        assert_same(mine + other, torch.ones_like(mine))


@pytest.mark.parametrize('type', SUPPORTED)
def test_samples_do_not_meet(type):
    backbone = MAKERS[type](type)
    images, share = toys.images(4), toys.shares(4, GRID[type])
    order = torch.tensor([2, 0, 3, 1])
    trace = LabelTrace(backbone)
    with trace(share):
        backbone(images)
    expected = trace.output_share[order]
    with trace(share[order]):
        backbone(images[order])
    assert_same(trace.output_share, expected)


@pytest.mark.parametrize('type', SUPPORTED)
def test_shares_stay_between_their_extremes(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    for moved in [trace.output_share, *trace.block_shares]:
        assert moved.min() >= share.min() and moved.max() <= share.max()


@pytest.mark.parametrize('type', FAMILIES)
def test_gradient_accumulation(type):
    # two forwards before the backwards, so that the second must not disturb
    # what the first has kept
    backbone, images, share = make(type)
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

    with trace(share[:1]):
        for image in images:
            loss_of(backbone(image[None])).backward()
    assert_same(gradients(backbone), expected)


@pytest.mark.parametrize('type', FAMILIES)
def test_grids_of_the_first_tokens_and_of_every_block(type):
    backbone, images, share = make(type)
    trace = LabelTrace(backbone, record=True)
    assert trace.grid_of(images) == tuple(share.shape[1:])
    with trace(share):
        backbone(images)
    assert len(trace.block_grids) == len(trace.block_shares)
    extra = getattr(backbone, 'num_extra_tokens', 0)
    for (rows, cols), block in zip(trace.block_grids, trace.block_shares):
        assert block.shape[1] == rows * cols + extra
