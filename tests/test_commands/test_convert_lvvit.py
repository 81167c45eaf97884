"""Converted LV-ViTs compute what the published layout computes."""

import pytest
import torch

from mmtlalign.checkpoint import load_strictly
from mmtlalign.commands.convert import main
from mmtlalign.errors import one_line_errors
from mmtlalign.models import LVViT, TokenLabelHead
from tests.test_models.test_backbones.lvvit_reference import both_scores, build_state, predict

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
def convert(tmp_path):
    """Run the converter here; returns what it wrote."""

    def run(file, *options):
        out = tmp_path / 'out.pth'
        with one_line_errors('convert'):
            main([str(file), str(out), *options])
        return torch.load(out, weights_only=True)

    return run


@pytest.fixture
def release(tmp_path):
    """A file in the published layout, and its state."""
    state = build_state(240, 3, 8, num_patches=16, num_classes=5)
    torch.save(state, tmp_path / 'release.pth')
    return tmp_path / 'release.pth', state


@pytest.mark.filterwarnings('ignore')
def test_equal_scores(convert, release, capsys):
    file, state = release
    converted = convert(file)['state_dict']
    assert f'{len(state)} tensors' in capsys.readouterr().out and len(converted) == len(state)
    backbone = LVViT(ARCH, img_size=64, out_type='raw')
    head = TokenLabelHead(5, 240, loss=dict(type='mmpretrain.CrossEntropyLoss'))
    model = torch.nn.ModuleDict(dict(backbone=backbone, head=head)).eval()
    load_strictly(model, converted, str(file))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feats = backbone(images)
        found = head(feats)
        dense = head.aux_head(feats[0][:, 1:])
    score, token_scores = both_scores(state, images, HEADS, SKIP_LAM)
    torch.testing.assert_close(dense, token_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, predict(state, images, HEADS, SKIP_LAM), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1 and (found - score).abs().max() > 0.1


def test_there_and_back(convert, release, tmp_path):
    file, state = release
    torch.save(convert(file), tmp_path / 'ours.pth')
    back = convert(tmp_path / 'ours.pth', '--to', 'timm')
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_without_the_dense_head(convert, release, tmp_path):
    file, state = release
    for key in ('aux_head.weight', 'aux_head.bias'):
        del state[key]
    torch.save(state, file)
    assert 'head.aux_head.weight' not in convert(file)['state_dict']


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
    file, state = release
    change(state)
    torch.save(state, file)
    with pytest.raises(SystemExit, match=message):
        convert(file)
