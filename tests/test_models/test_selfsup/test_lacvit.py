"""The algorithm of stage 1 on backbones of several kinds."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmtlalign.errors import UserError
from mmtlalign.models import LaCViT, SupervisedContrastiveLoss
from mmtlalign.models.encoder_features import encoder_features

from ..test_tlalign import config

PLAIN = dict(_scope_='mmpretrain', drop_path_rate=0.0)
VIT, SWIN = (dict(config(swin)['backbone'], **PLAIN) for swin in (False, True))


def build(backbone=VIT, **neck):
    projector = dict(type='mmpretrain.MoCoV2Neck', in_channels=16, hid_channels=8, out_channels=4)
    return LaCViT(
        backbone=backbone,
        neck={**projector, **neck},
        loss=dict(type='mmtlalign.SupervisedContrastiveLoss'),
        data_preprocessor=dict(mean=[1.0] * 3, std=[2.0] * 3, to_rgb=True),
    )


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize(
    'backbone, pool',
    [
        (VIT, True),
        (dict(VIT, out_type='avg_featmap'), False),
        (dict(VIT, out_type='raw'), False),
        (SWIN, True),
        (SWIN, False),
    ],
)
def test_loss_of_two_views(backbone, pool):
    """The same as with everything done by hand, on any backbone."""
    model = build(backbone, with_avg_pool=pool).eval()
    views = [torch.randn(3, 3, 16, 16) for _ in range(2)]
    losses = model.loss(views, samples([4, 4, 1]))

    outputs = [model.backbone(view)[-1] for view in views]
    if outputs[0].ndim == 4:
        outputs = [output.flatten(2).mean(2) for output in outputs]
    elif outputs[0].ndim == 3:
        outputs = [output[:, 0] for output in outputs]
    projected = F.normalize(model.neck.mlp(torch.cat(outputs)))
    labels = torch.tensor([4, 4, 1, 4, 4, 1])
    expected, _ = SupervisedContrastiveLoss()(projected, labels)
    torch.testing.assert_close(losses['loss'], expected)
    assert losses['skipped_anchors'] == 0


def test_one_view_skips_anchors_without_a_positive():
    model = build()
    images = torch.randn(5, 3, 16, 16)
    losses = model.loss(images, samples([0, 1, 0, 2, 0]))
    assert losses['skipped_anchors'] == 2
    same = model.loss(images[[0, 2, 4, 1, 3]], samples([0, 0, 0, 1, 2]))
    torch.testing.assert_close(losses['loss'], same['loss'])
    with pytest.raises(UserError, match='no two of the 5 features'):
        model.loss(images, samples(range(5)))


def test_modes_and_a_projector_of_another_width():
    model = build().eval()
    images = torch.randn(2, 3, 16, 16)
    assert model(images).shape == (2, 16)
    given = samples([0, 1])
    assert model(images, given, mode='predict') is given
    message = (
        r'\(model.neck\) takes 12 channels, but VisionTransformer .* puts out 16; set '
        'model.neck.in_channels=16'
    )
    with pytest.raises(UserError, match=message):
        build(in_channels=12).loss([images] * 2, given)


def test_features_of_a_distilled_pair_and_of_tokens_alone():
    pair = torch.randn(2, 3, 4)
    backbone = torch.nn.Module()
    torch.testing.assert_close(encoder_features(backbone, (None, (pair[0], pair[1]))), pair.mean(0))
    torch.testing.assert_close(encoder_features(backbone, pair), pair.mean(1))
