"""Every token trained on the label it arrives with, recomputed by hand."""

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.oracle import dense_labels

from . import test_tlalign
from .test_tlalign import MIX_TOKEN, SOFT_CE, TOKEN_CUTMIX, config, cross_entropy, data

CLASSES = 5
TOKENS = dict(type='mmtlalign.AlignedTokenTarget')
ALIGNED = dict(type='mmtlalign.AlignedTarget')
AREA = dict(type='mmtlalign.AreaTarget')


def head(**kwargs):
    loss = dict(num_classes=CLASSES, in_channels=16, loss=SOFT_CE)
    return dict(type='mmtlalign.AlignedTokenHead', **loss, **kwargs)


# the backbones of the other tests, all of whose tokens come out
CLASS_TOKEN = dict(config()['backbone'], drop_path_rate=0.0)
VIT = dict(CLASS_TOKEN, out_type='raw')
DISTILLED = dict(VIT, type='DistilledVisionTransformer')
SWIN = dict(swin=True, neck=None, backbone=dict(config(swin=True)['backbone'], drop_path_rate=0.0))
UNMIXED = dict(TOKEN_CUTMIX, probs=[0.0])
CASES = {
    'vit': dict(head=head(dense_weight=0.7)),
    'vit, map': dict(backbone=dict(VIT, out_type='featmap')),
    'vit, block 0': dict(backbone=dict(VIT, out_indices=(0,))),
    'vit, area': dict(target=AREA),
    'vit, unmixed': dict(train_cfg=UNMIXED),
    'tokens mixed in the backbone': dict(
        type='mmtlalign.TokenLabelClassifier', train_cfg=MIX_TOKEN
    ),
    'swin': SWIN,
}


def build(**kwargs):
    return test_tlalign.build(**{'backbone': VIT, 'head': head(), 'target': TOKENS, **kwargs})


def dense_targets(model, mix, images):
    """Labels of the image (B, K) and of the patch tokens (B, N, K), with one
    number per class from the start (B, rows, cols, K)."""
    eye = torch.eye(CLASSES, dtype=torch.float64)
    own = mix.token_share[..., None].double()
    start = own * eye[:4][:, None, None] + (1 - own) * (eye[mix.partner][:, None, None])
    if model.trace is None:
        return start.mean((1, 2)), start.flatten(1, 2)
    blocks, image = dense_labels(model.backbone, images, start)
    last = max(model.backbone.out_indices)
    last = last if hasattr(model.backbone, 'layers') else -1
    extra = getattr(model.backbone, 'num_extra_tokens', 0)
    return image, blocks[last][:, extra:]


@pytest.mark.parametrize('case', CASES)
def test_loss_is_that_of_dense_labels(case):
    model = build(**CASES[case])
    batch = model.data_preprocessor(data(), training=True)
    mix, images = batch['mix'], batch['inputs']
    unmixed = case == 'vit, unmixed'
    assert mix.partner.tolist() == ([0, 1, 2, 3] if unmixed else [3, 2, 1, 0])
    assert (mix.lam[0] == 1) if unmixed else (0 < mix.lam[0] < 1)
    losses = model.loss(**batch)
    assert {key for key in losses if 'loss' in key} == {'loss_cls', 'loss_dense'}
    if mix.in_backbone:  # the same as to paste pixels, for patches that do not overlap
        own = mix.token_share.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
        images = own * images + (1 - own) * images[mix.partner]
    image_label, token_labels = dense_targets(model, mix, images)
    (out,) = model.backbone(images)
    if out.ndim == 4:
        tokens = out.flatten(2).mT
        image = tokens.mean(1)
    else:
        image, tokens = out[:, 0], out[:, 1:]
    expected = cross_entropy(model.head.layers.head(image).double(), image_label)
    weight = CASES[case].get('head', {}).get('dense_weight', 0.5)
    dense = weight * cross_entropy(model.head.aux_head(tokens).double(), token_labels)
    assert losses['loss_cls'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses['loss_dense'].item() == pytest.approx(dense.item(), rel=1e-5)
    (losses['loss_cls'] + losses['loss_dense']).backward()
    weight = model.backbone.patch_embed.projection.weight
    found, weight.grad = weight.grad, None
    (expected + dense).backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-6)
    if model.trace is not None and not unmixed:
        moved = model.trace.output_token_share.mean((1, 2))
        assert (mix.lam - moved).abs().max() > 1e-4, 'nothing moved'


def test_predictions_are_those_of_the_host_without_the_tokens():
    model = build().eval()
    plain = MODELS.build(config(backbone=CLASS_TOKEN)).eval()
    state = {k: v for k, v in model.state_dict().items() if 'aux_head' not in k}
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(target=ALIGNED), TypeError, 'AlignedTarget weighs images only; .*AlignedTokenTarget'),
        (dict(backbone=CLASS_TOKEN), ValueError, r"got \(4, 16\); set out_type .*'raw', or leave"),
        (dict(backbone=DISTILLED), ValueError, '17 patch tokens, and the shares are for 4x4'),
        (dict(SWIN, target=AREA), ValueError, '16 patch tokens, and the shares are for 8x8'),
        (dict(token_merging=dict(r=2)), ValueError, 'merged tokens are no grid'),
    ],
)
def test_mistakes(change, error, message):
    with pytest.raises(error, match=message) as info:
        model = build(**change)
        model.loss(**model.data_preprocessor(data(), training=True))
    assert '\n' not in str(info.value)
