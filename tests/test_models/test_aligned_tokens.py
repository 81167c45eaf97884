"""Every token trained on the label it arrives with, recomputed by hand."""

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.oracle import dense_labels

from . import test_tlalign
from .test_tlalign import MIX_TOKEN, SOFT_CE, TOKEN_CUTMIX, config, cross_entropy, data

CLASSES = 5
TOKENS = dict(type='mmtlalign.AlignedTokenTarget')
AREA = dict(type='mmtlalign.AreaTarget')


def head(**kwargs):
    loss = dict(num_classes=CLASSES, in_channels=16, loss=SOFT_CE)
    return dict(type='mmtlalign.AlignedTokenHead', **loss, **kwargs)


# the backbones of the other tests, all of whose tokens come out
VIT = dict(config()['backbone'], drop_path_rate=0.0, out_type='raw')
SWIN = dict(config(swin=True)['backbone'], drop_path_rate=0.0)
CASES = {
    'vit': dict(backbone=VIT),
    'vit, map': dict(backbone=dict(VIT, out_type='featmap')),
    'vit, block 0': dict(backbone=dict(VIT, out_indices=(0,))),
    'vit, area': dict(backbone=VIT, target=AREA),
    'swin': dict(swin=True, neck=None, backbone=SWIN),
}


def build(**kwargs):
    return test_tlalign.build(**{'backbone': VIT, 'head': head(), 'target': TOKENS, **kwargs})


def mixed_batch(model):
    model.data_preprocessor.batch_augments.seed(1)
    batch = model.data_preprocessor(data(), training=True)
    assert 0 < batch['mix'].lam[0] < 1, 'a draw that mixes nothing'
    return batch


def dense_targets(model, batch):
    """Labels of the image (B, K) and of the patch tokens (B, N, K), with one
    number per class from the start (B, rows, cols, K)."""
    mix, eye = batch['mix'], torch.eye(CLASSES, dtype=torch.float64)
    own = mix.token_share[..., None].double()
    partner = torch.tensor([3, 2, 1, 0])
    assert mix.partner.tolist() == partner.tolist()
    start = own * eye[:4][:, None, None] + (1 - own) * (eye[partner][:, None, None])
    if model.trace is None:
        return start.mean((1, 2)), start.flatten(1, 2)
    blocks, image = dense_labels(model.backbone, batch['inputs'], start)
    last = max(model.backbone.out_indices)
    last = last if hasattr(model.backbone, 'layers') else -1
    extra = getattr(model.backbone, 'num_extra_tokens', 0)
    return image, blocks[last][:, extra:]


@pytest.mark.parametrize('case', CASES)
def test_loss_is_that_of_dense_labels(case):
    model = build(head=head(dense_weight=0.7), **CASES[case])
    batch = mixed_batch(model)
    losses = model.loss(**batch)
    assert {key for key in losses if 'loss' in key} == {'loss_cls', 'loss_dense'}
    image_label, token_labels = dense_targets(model, batch)

    (out,) = model.backbone(batch['inputs'])
    if out.ndim == 4:
        tokens = out.flatten(2).mT
        image = tokens.mean(1)
    else:
        image, tokens = out[:, 0], out[:, 1:]
    expected = cross_entropy(model.head.layers.head(image).double(), image_label)
    dense = 0.7 * cross_entropy(model.head.aux_head(tokens).double(), token_labels)
    assert losses['loss_cls'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses['loss_dense'].item() == pytest.approx(dense.item(), rel=1e-5)
    (losses['loss_cls'] + losses['loss_dense']).backward()
    found = model.backbone.patch_embed.projection.weight.grad.clone()
    model.zero_grad()
    (expected + dense).backward()
    torch.testing.assert_close(
        found, model.backbone.patch_embed.projection.weight.grad, rtol=1e-4, atol=1e-6
    )
    if model.trace is not None:
        start = batch['mix'].token_share.mean((1, 2))
        moved = model.trace.output_token_share.mean((1, 2))
        assert (start - moved).abs().max() > 1e-4, 'nothing moved'


def test_tokens_of_unmixed_batches_have_their_images_label():
    model = build(train_cfg=dict(TOKEN_CUTMIX, probs=[0.0]))
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    tokens = model.backbone(batch['inputs'])[0][:, 1:]
    labels = torch.eye(CLASSES)[:4][:, None].expand(-1, 16, -1)
    expected = 0.5 * cross_entropy(model.head.aux_head(tokens), labels)
    assert losses['lam'] == losses['aligned_share'] == 1
    assert losses['loss_dense'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_weight_tokens_are_left_alone():
    model = build(head=head(dense_weight=0.0))
    losses = model.loss(**mixed_batch(model))
    assert 'loss_dense' not in losses
    losses['loss_cls'].backward()
    assert not model.head.aux_head.weight.requires_grad


def test_predictions_are_those_of_the_host_without_the_tokens():
    model = build().eval()
    plain = MODELS.build(config(backbone=dict(VIT, out_type='cls_token'))).eval()
    state = {k: v for k, v in model.state_dict().items() if 'aux_head' not in k}
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))


def test_tokens_mixed_in_the_backbone_are_aligned_too():
    model = build(type='mmtlalign.TokenLabelClassifier', train_cfg=MIX_TOKEN)
    batch = mixed_batch(model)
    losses = model.loss(**batch)
    share = model.trace.output_token_share.flatten(1)[..., None]
    own = torch.eye(CLASSES)[:4][:, None]
    with model.mixed_tokens(batch['mix']):
        tokens = model.backbone(batch['inputs'])[0][:, 1:]
    label = share * own + (1 - share) * own.flip(0)
    expected = 0.5 * cross_entropy(model.head.aux_head(tokens), label)
    assert losses['loss_dense'].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    'change, error, message',
    [
        (
            dict(target=dict(type='mmtlalign.AlignedTarget')),
            TypeError,
            'AlignedTokenHead trains every token, and AlignedTarget weighs images only; '
            '.*AlignedTokenTarget',
        ),
        (
            dict(backbone=config()['backbone']),
            ValueError,
            r"got \(4, 16\); set out_type of the backbone to 'raw', or leave out the neck",
        ),
        (
            dict(backbone=dict(VIT, type='DistilledVisionTransformer')),
            ValueError,
            '17 patch tokens, and the shares are for 4x4',
        ),
        (
            dict(CASES['swin'], target=AREA),
            ValueError,
            '16 patch tokens, and the shares are for 8x8',
        ),
        (dict(train_cfg=None), ValueError, r'give `train_cfg` .*probs=\[0.\]'),
        (dict(head=head(dense_weight=-1)), ValueError, 'dense_weight=-1'),
        (dict(token_merging=dict(r=2)), ValueError, 'merged tokens are no grid'),
    ],
)
def test_mistakes(change, error, message):
    with pytest.raises(error, match=message) as info:
        model = build(**change)
        model.loss(**model.data_preprocessor(data(), training=True))
    assert '\n' not in str(info.value)
