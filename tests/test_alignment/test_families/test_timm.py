"""Shares through timm's ViT and Swin, against oracles of their own."""

import pytest
import torch
from mmpretrain.models import TIMMBackbone

from mmtlalign.alignment import LabelTrace, refused_backbones
from tests.oracles import timm_swin, timm_vit
from tests.test_alignment import timm_toys, toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

VITS = [
    dict(),
    dict(name='VisionTransformerDistilled'),
    dict(reg_tokens=2),
    dict(reg_tokens=2, global_pool='avg'),
    dict(reg_tokens=1, global_pool='avg', pool_include_prefix=True),
    dict(global_pool='avg', class_token=False),
    dict(global_pool='', class_token=False),
    dict(global_pool=''),
    dict(pre_norm=True, num_classes=0),
    # DeiT-III
    dict(init_values=0.5, no_embed_class=True),
    dict(qk_norm=True, scale_attn_norm=True, qkv_bias=False),
    dict(dynamic_img_size=True),
]


@pytest.mark.parametrize('fused', [True, False], ids=['fused', 'eager'])
@pytest.mark.parametrize('cfg', VITS, ids=str)
def test_vit(cfg, fused):
    assert_family(
        timm_toys.vit(fused=fused, **cfg),
        toys.images(),
        toys.shares(),
        timm_vit.timm_labels,
        exact=not fused,
    )


def test_any_size_with_padding():
    backbone = timm_toys.vit(dynamic_img_size=True, dynamic_img_pad=True)
    images = toys.images(size=(18, 27))
    assert LabelTrace(backbone).grid_of(images) == (5, 7)
    assert_family(
        backbone,
        toys.images(size=(18, 27)),
        toys.shares(grid=(5, 7)),
        timm_vit.timm_labels,
        exact=False,
    )


@pytest.mark.parametrize(
    'size, cfg',
    [
        (16, dict()),  # 8 x 8 tokens, then 4 x 4, the size of a window
        (16, dict(always_partition=True, window_size=3)),
        ((26, 18), dict(img_size=(26, 18))),  # 13 x 9, then 7 x 5
        ((26, 18), dict(dynamic_img_size=True, always_partition=True)),
        (
            24,
            dict(img_size=24, depths=(1, 2, 1), num_heads=(2, 2, 4), window_size=2, qkv_bias=False),
        ),
        (16, dict(head_dim=4)),
    ],
    ids=str,
)
def test_swin(size, cfg):
    grid = (size // 2,) * 2 if isinstance(size, int) else (13, 9)
    assert_family(
        timm_toys.swin(**cfg), toys.images(size=size), toys.shares(grid=grid), timm_swin.labels_of
    )


@pytest.mark.parametrize('fused', [True, False], ids=['fused', 'eager'])
def test_checkpointed_vit(fused, run_checkpoint):
    assert_checkpointing(
        timm_toys.vit(fused=fused),
        toys.images(),
        toys.shares(),
        ['blocks.0', 'blocks.2'],
        run_checkpoint,
    )


def test_checkpointed_swin(run_checkpoint):
    assert_checkpointing(
        timm_toys.swin(),
        toys.images(),
        toys.shares(grid=8),
        ['layers.0.blocks.1', 'layers.1'],
        run_checkpoint,
    )


@pytest.mark.parametrize('make', [timm_toys.vit, timm_toys.swin])
def test_own_option_of_checkpointing(make):
    backbone, images = make(), toys.images()
    share = toys.shares(grid=4 if make is timm_toys.vit else 8)
    trace = LabelTrace(backbone)
    with trace(share):
        expected = backbone(images)
    kept = trace.output_share
    backbone.set_grad_checkpointing()
    with trace(share):
        features = backbone(images)
        features.sum().backward()
    assert_same(features, expected)
    assert_same(trace.output_share, kept, 1e-6)


@pytest.mark.parametrize('fused', [True, False], ids=['fused', 'eager'])
def test_compiled_vit(fused):
    assert_compiles(timm_toys.vit(fused=fused, depth=2), toys.images(), toys.shares())


def test_compiled_swin():
    assert_compiles(timm_toys.swin(depths=(2, 1)), toys.images(), toys.shares(grid=8))


# the same weights in mmpretrain


def renamed(state, pairs):
    """A state dict with parts of its names replaced, without the head."""
    out = {}
    for name, value in state.items():
        if name.startswith('head'):
            continue
        for old, new in pairs:
            name = name.replace(old, new)
        out[name] = value
    return out


def test_vit_moves_what_that_of_mmpretrain_moves():
    backbone = timm_toys.vit()
    backbone.eval()
    twin = toys.vit(arch=dict(feedforward_channels=128), out_indices=-1)
    twin.eval()
    state = renamed(
        backbone.state_dict(),
        [
            ('norm.', 'ln1.'),
            ('blocks', 'layers'),
            ('norm', 'ln'),
            ('mlp.fc1', 'ffn.layers.0.0'),
            ('mlp.fc2', 'ffn.layers.1'),
            ('patch_embed.proj', 'patch_embed.projection'),
        ],
    )
    twin.load_state_dict(state)
    assert_moves_alike(
        backbone, twin, toys.shares(), backbone.forward_features(toys.images())[:, 0]
    )


def test_swin_moves_what_that_of_mmpretrain_moves():
    backbone = timm_toys.swin()
    backbone.eval()
    twin = toys.swin()
    twin.eval()
    state = renamed(
        backbone.state_dict(),
        [
            ('layers.1.downsample', 'layers.0.downsample'),
            ('layers', 'stages'),
            ('.attn.', '.attn.w_msa.'),
            ('mlp.fc1', 'ffn.layers.0.0'),
            ('mlp.fc2', 'ffn.layers.1'),
            ('patch_embed.proj', 'patch_embed.projection'),
        ],
    )
    for name in [name for name in state if 'downsample' in name]:
        # columns, rows, channels there; channels, rows, columns here
        value = state[name].unflatten(-1, (2, 2, 16))
        state[name] = value.transpose(-1, -3).flatten(-3)
    state = {
        name.replace('norm.', 'norm1.') if name.startswith('norm.') else name: value
        for name, value in state.items()
    }
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected
    assert all('relative_position_index' in name for name in missing)
    assert_moves_alike(
        backbone,
        twin,
        toys.shares(grid=8),
        backbone.forward_features(toys.images()).permute(0, 3, 1, 2),
    )


def assert_moves_alike(backbone, twin, share, features):
    images = toys.images()
    assert_same(twin(images)[-1], features)
    for propagation in ('tlalign', 'contribution'):
        traces = [LabelTrace(module, True, propagation) for module in (backbone, twin)]
        for trace in traces:
            with trace(share), torch.no_grad():
                trace.backbone(images)
        for pair in zip(*(trace.block_shares for trace in traces), strict=True):
            assert_same(*pair, atol=1e-6)
        assert_same(*(trace.output_share for trace in traces), atol=1e-6)


def test_inside_the_wrapper_of_mmpretrain():
    images, share = toys.images(), toys.shares()
    backbone = toys.fill(
        TIMMBackbone(
            'vit_tiny_patch16_224', img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=2
        )
    )
    before = list(backbone.state_dict())
    stock = backbone(images)
    trace, inner = LabelTrace(backbone), LabelTrace(backbone.timm_model)
    for each in (trace, inner):
        with each(share):
            features = each.backbone(images)
    assert_same(features, stock[0])
    assert_same(trace.output_share, inner.output_share)
    assert list(backbone.state_dict()) == before
    assert 'forward' not in vars(backbone)


# what is refused, in one line


@pytest.mark.parametrize(
    'make, cfg, error, message',
    [
        (timm_toys.vit, dict(global_pool='map'), ValueError, "global_pool='map' weighs tokens"),
        (timm_toys.vit, dict(global_pool='max'), ValueError, "global_pool='max' weighs tokens"),
        (timm_toys.vit, dict(patch_drop_rate=0.5), ValueError, 'patch_drop_rate drops patches'),
        (
            timm_toys.vit,
            dict(attn_drop_rate=0.1),
            ValueError,
            'blocks.0.attn has attention dropout 0.1',
        ),
        (timm_toys.vit, dict(attn_layer='diff'), TypeError, 'blocks.0.attn is a DiffAttention'),
        (
            timm_toys.swin,
            dict(attn_drop_rate=0.1),
            ValueError,
            'layers.0.blocks.0.attn has attention dropout 0.1',
        ),
        (
            timm_toys.swin,
            dict(fused=True),
            ValueError,
            'layers.0.blocks.0.attn is fused, which hides its matrix',
        ),
        (timm_toys.swin, dict(global_pool='max'), ValueError, "global_pool='max' weighs tokens"),
    ],
)
def test_refused_options(make, cfg, error, message):
    backbone = make(**cfg)
    with pytest.raises(error, match=message) as caught:
        LabelTrace(backbone)
    assert '\n' not in str(caught.value)


def test_refused_gates():
    backbone = timm_toys.vit()
    backbone.blocks[1].attn.gate = torch.nn.Linear(32, 32)
    with pytest.raises(ValueError, match='blocks.1.attn gates its output'):
        LabelTrace(backbone)


def test_refused_blocks():
    from timm.models.vision_transformer import ResPostBlock

    backbone = timm_toys.vit(block_fn=ResPostBlock)
    with pytest.raises(TypeError, match='blocks.0 is a ResPostBlock'):
        LabelTrace(backbone)


@pytest.mark.parametrize('name', ['eva02_tiny_patch14_224', 'naflexvit_base_patch16_gap'])
def test_refused_models(name):
    import timm

    with torch.device('meta'):
        backbone = timm.create_model(name)
    with pytest.raises(TypeError, match='is refused: ') as error:
        LabelTrace(backbone)
    assert '\n' not in str(error.value)
    assert f'timm.{type(backbone).__name__}' in refused_backbones()


def test_refused_masks():
    backbone = timm_toys.vit()
    with LabelTrace(backbone)(toys.shares()):
        with pytest.raises(ValueError, match='attention with a mask'):
            backbone(toys.images(), is_causal=True)
