"""Every token trained on the label it arrives with, recomputed by hand."""

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.oracle import dense_labels

from .test_tlalign import SOFT_CE, TOKEN_CUTMIX, build, config, data

CLASSES = 5
TOKENS = dict(type='mmtlalign.AlignedTokenTarget')
AREA = dict(type='mmtlalign.AreaTarget')


def head(dims=16, **kwargs):
    return dict(
        type='mmtlalign.AlignedTokenHead',
        num_classes=CLASSES,
        in_channels=dims,
        loss=SOFT_CE,
        **kwargs,
    )


def vit(**kwargs):
    """The backbone of the other tests, all of whose tokens come out."""
    return dict(config()['backbone'], drop_path_rate=0.0, out_type='raw', **kwargs)


def swin(**kwargs):
    return dict(config(swin=True)['backbone'], drop_path_rate=0.0, **kwargs)


CASES = {
    'vit': dict(backbone=vit()),
    'vit, map': dict(backbone=dict(vit(), out_type='featmap')),
    'vit, block 0': dict(backbone=vit(out_indices=(0,))),
    'vit, area': dict(backbone=vit(), target=AREA),
    'swin': dict(swin=True, neck=None, backbone=swin()),
}


def mixed_batch(model, seed=1):
    model.data_preprocessor.batch_augments.seed(seed)
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


def cross_entropy(scores, target):
    """Smoothed by .1; mean over all but the last dimension."""
    smooth = 0.9 * target + 0.1 / CLASSES
    scores = scores.double()
    logs = scores - scores.exp().sum(-1, keepdim=True).log()
    return -(smooth * logs).sum(-1).mean()


@pytest.mark.parametrize('case', CASES)
def test_loss_is_that_of_dense_labels(case):
    model = build(**{'target': TOKENS, 'head': head(dense_weight=0.7), **CASES[case]})
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
    head_of_image, aux = model.head.layers.head, model.head.aux_head
    expected = cross_entropy(image @ head_of_image.weight.T + head_of_image.bias, image_label)
    dense = 0.7 * cross_entropy(tokens @ aux.weight.T + aux.bias, token_labels)
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
    model = build(
        backbone=vit(), head=head(), target=TOKENS, train_cfg=dict(TOKEN_CUTMIX, probs=[0.0])
    )
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    tokens = model.backbone(batch['inputs'])[0][:, 1:]
    labels = torch.eye(CLASSES)[:4][:, None].expand(-1, 16, -1)
    expected = 0.5 * cross_entropy(model.head.aux_head(tokens), labels)
    assert losses['lam'] == losses['aligned_share'] == 1
    assert losses['loss_dense'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_another_propagation_moves_tokens_otherwise():
    found = []
    for propagation in ('tlalign', 'contribution'):
        model = build(backbone=vit(), head=head(), target=dict(TOKENS, propagation=propagation))
        torch.manual_seed(0)
        model.loss(**mixed_batch(model))
        found.append(model.trace.output_token_share)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_without_weight_tokens_are_left_alone():
    model = build(backbone=vit(), head=head(dense_weight=0.0), target=TOKENS)
    losses = model.loss(**mixed_batch(model))
    assert 'loss_dense' not in losses
    losses['loss_cls'].backward()
    assert not model.head.aux_head.weight.requires_grad


def test_predictions_are_those_of_the_host_without_the_tokens():
    model = build(backbone=vit(), head=head(), target=TOKENS).eval()
    cfg = config(backbone=dict(vit(), out_type='cls_token'))
    plain = MODELS.build(cfg).eval()
    state = model.state_dict()
    del state['head.aux_head.weight'], state['head.aux_head.bias']
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(images, mode='tensor'), plain(images, mode='tensor'))


def test_tokens_mixed_in_the_backbone_are_aligned_too():
    model = build(
        type='mmtlalign.TokenLabelClassifier',
        backbone=vit(),
        head=head(),
        target=TOKENS,
        train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', patch_size=4)]),
    )
    batch = mixed_batch(model)
    losses = model.loss(**batch)
    share = model.trace.output_token_share.flatten(1)[..., None]
    own = torch.eye(CLASSES)[:4][:, None]
    with model.mixed_tokens(batch['mix']):
        tokens = model.backbone(batch['inputs'])[0][:, 1:]
    expected = 0.5 * cross_entropy(
        model.head.aux_head(tokens), share * own + (1 - share) * own.flip(0)
    )
    assert losses['loss_dense'].item() == pytest.approx(expected.item(), rel=1e-5)


def refused(error, message, **kwargs):
    with pytest.raises(error, match=message) as info:
        model = MODELS.build(config(**kwargs))
        model.loss(**model.data_preprocessor(data(), training=True))
    assert '\n' not in str(info.value)


def test_mistakes():
    aligned = dict(type='mmtlalign.AlignedTarget')
    refused(
        TypeError,
        'AlignedTokenHead trains every token, and AlignedTarget'
        ' weighs images only; .*AlignedTokenTarget',
        target=aligned,
        backbone=vit(),
        head=head(),
    )
    refused(
        ValueError,
        r'got \(4, 16\); set out_type of the backbone to '
        "'raw', or leave out the neck",
        target=TOKENS,
        head=head(),
    )
    refused(
        ValueError,
        '17 patch tokens, and the shares are for 4x4',
        target=TOKENS,
        head=head(),
        backbone=dict(vit(), type='DistilledVisionTransformer'),
    )
    refused(
        ValueError,
        '16 patch tokens, and the shares are for 8x8',
        swin=True,
        target=AREA,
        head=head(),
        backbone=swin(),
        neck=None,
    )
    refused(
        ValueError,
        r'give `train_cfg` .*probs=\[0.\]',
        target=TOKENS,
        head=head(),
        backbone=vit(),
        train_cfg=None,
    )
    refused(
        ValueError, 'dense_weight=-1', target=TOKENS, head=head(dense_weight=-1), backbone=vit()
    )


def test_merged_tokens_lie_on_no_grid():
    refused(
        ValueError,
        'merged tokens are no grid',
        target=TOKENS,
        head=head(),
        backbone=vit(),
        token_merging=dict(r=2),
    )
