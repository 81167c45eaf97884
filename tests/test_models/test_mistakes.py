"""Common mistakes with mixing and its classifier, one clear error each."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.families import supported_backbones
from mmtlalign.checkpoint.plain_types import PLAIN
from mmtlalign.models import CutMix, Mixup, RandomMix
from mmtlalign.models.heads.tlalign_head import ALIGNED_FORMS

from .test_tlalign import build, data

MIX_TOKEN = dict(augments=[dict(type='mmtlalign.MixToken', patch_size=4)])


@pytest.mark.parametrize(
    'make, error, message',
    [
        (lambda: RandomMix([]), ValueError, 'augments is empty'),
        (lambda: CutMix(alpha='1.0'), ValueError, "alpha='1.0' .* positive"),
        (lambda: CutMix(alpha=None), ValueError, 'alpha=None .* positive'),
        (lambda: CutMix(patch_size=True), ValueError, 'patch_size=True'),
        (
            lambda: build(
                data_preprocessor=dict(
                    num_classes=5, mean=[0.0] * 3, std=[1.0] * 3, to_onehot=False
                )
            ),
            ValueError,
            'to_onehot=False',
        ),
        (
            lambda: build(
                data_preprocessor=dict(
                    num_classes=5, mean=[0.0] * 3, std=[1.0] * 3, batch_augments=MIX_TOKEN
                )
            ),
            TypeError,
            'named twice',
        ),
        (lambda: build(token_merging='r'), TypeError, "token_merging='r'"),
        (lambda: build(token_merging={}), TypeError, r'such as dict\(r=13\)'),
        (lambda: build(head=None), TypeError, 'need a head'),
    ],
)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_images_that_are_not_normalised_yet():
    mix, images = Mixup(patch_size=4), torch.zeros(2, 3, 8, 8)
    record = mix.draw(images)
    with pytest.raises(TypeError, match='uint8; mix them after'):
        mix.apply(images.byte(), record)


def test_tokens_are_swapped_whatever_the_classifier():
    """Or labels would be mixed, and nothing else."""
    model = build(
        train_cfg=MIX_TOKEN,
        target=dict(type='mmtlalign.AreaTarget'),
        data_preprocessor=dict(
            type='mmtlalign.TokenLabelDataPreprocessor',
            num_classes=5,
            mean=[0.0] * 3,
            std=[60.0] * 3,
        ),
    )
    model.eval()
    model.data_preprocessor.batch_augments.seed(1)
    batch = model.data_preprocessor(data(), training=True)
    record = batch['mix']
    assert record.in_backbone and 0 < record.lam[0] < 1
    loss = model(**batch, mode='loss')['loss']
    # the same by hand: tokens of the partner where the record says so
    patch_embed = model.backbone.patch_embed
    stock = patch_embed.forward
    own = record.token_share.flatten(1)[..., None]

    def swapped(images):
        tokens, grid = stock(images)
        return own * tokens + (1 - own) * tokens[record.partner], grid

    patch_embed.forward = swapped
    feats = model.extract_feat(batch['inputs'])
    del patch_embed.forward
    expected = model.head.loss(
        feats, batch['data_samples'], mix=record, share=lambda scores: record.lam
    )
    torch.testing.assert_close(loss, expected['loss'])
    plain = model.extract_feat(batch['inputs'])
    assert (plain[0] - feats[0]).abs().max() > 1e-3
    assert isinstance(LabelTrace(model.backbone), LabelTrace)


def test_what_can_be_trained_can_be_published():
    hosts = {'mmpretrain', 'mmdet', 'mmseg'}
    backbones = {
        name.partition('.')[2] for name in supported_backbones() if name.partition('.')[0] in hosts
    }
    backbones.remove('TIMMBackbone')  # which may download
    assert backbones and backbones <= PLAIN
    assert {head.__name__ for head in ALIGNED_FORMS} <= PLAIN
