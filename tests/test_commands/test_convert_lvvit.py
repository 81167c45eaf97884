"""Converted LV-ViTs compute what the published layout computes."""

import pytest
import torch

from mmtlalign.checkpoint import load_strictly
from mmtlalign.models import LVViT, TokenLabelHead
from tests.test_models.test_backbones.lvvit_reference import both_scores, build_state, predict

from .test_convert import same_tensors

HEADS, SKIP_LAM = 4, 2.0
ARCH = dict(
    embed_dims=240,
    num_layers=3,
    num_heads=HEADS,
    feedforward_channels=720,
    stem_channels=8,
    skip_lam=SKIP_LAM,
)


@pytest.fixture
def release():
    """A state in the published layout."""
    return build_state(240, 3, 8, num_patches=16, num_classes=5)


@pytest.mark.filterwarnings('ignore')
def test_equal_scores_and_back(convert, release, capsys):
    converted = convert(release)['state_dict']
    assert f'{len(release)} tensors' in capsys.readouterr().out
    assert len(converted) == len(release)
    backbone = LVViT(ARCH, img_size=64, out_type='raw')
    head = TokenLabelHead(5, 240, loss=dict(type='mmpretrain.CrossEntropyLoss'))
    model = torch.nn.ModuleDict(dict(backbone=backbone, head=head)).eval()
    load_strictly(model, converted, 'release.pth')
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feats = backbone(images)
        found = head(feats)
        dense = head.aux_head(feats[0][:, 1:])
    score, token_scores = both_scores(release, images, HEADS, SKIP_LAM)
    expected = predict(release, images, HEADS, SKIP_LAM)
    torch.testing.assert_close(dense, token_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    same_tensors(convert(converted, '--to', 'timm'), release)
    assert found.std() > 0.1 and (found - score).abs().max() > 0.1


def test_without_the_head_of_dense_labels(convert, release):
    for key in ('aux_head.weight', 'aux_head.bias'):
        del release[key]
    assert 'head.aux_head.weight' not in convert(release)['state_dict']


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda s: s.pop('patch_embed.conv1.weight'), 'which no model of this'),
        (lambda s: s.update(extra=torch.ones(1)), "holds 'extra'"),
        (lambda s: s.pop('blocks.1.norm2.bias'), '1 keys missing'),
        (
            lambda s: s.update(pos_embed=torch.ones(1, 16, 240)),
            'for 15 patches, which is no square',
        ),
    ],
)
def test_files_that_do_not_fit(convert, release, change, message):
    change(release)
    with pytest.raises(SystemExit, match=message):
        convert(release)
