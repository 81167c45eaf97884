"""Converted weights compute the same features, in both directions."""

import re

import numpy as np
import pytest
import timm
import torch
from mmpretrain.models import DistilledVisionTransformer, SwinTransformer, VisionTransformer

from mmtlalign.commands.convert import main
from mmtlalign.errors import one_line_errors

SWIN = dict(
    img_size=32,
    patch_size=2,
    embed_dim=8,
    depths=(1, 2, 1),
    num_heads=(1, 2, 4),
    window_size=4,
    num_classes=3,
)
VIT = dict(img_size=16, patch_size=4, embed_dim=8, depth=3, num_heads=2, num_classes=3)


def make_swin(**kwargs):
    """timm's, with noise for weights, biases and tables."""
    return randomize(timm.models.SwinTransformer(**{**SWIN, **kwargs}))


def randomize(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def host_swin(window_size=4):
    """mmpretrain's of the same architecture."""
    host = SwinTransformer(
        arch=dict(embed_dims=8, depths=[1, 2, 1], num_heads=[1, 2, 4]),
        img_size=32,
        patch_size=2,
        window_size=window_size,
        out_indices=(2,),
    )
    host.eval()  # which returns None in mmpretrain
    return host


def host_vit(cls=VisionTransformer, **kwargs):
    """mmpretrain's of the same architecture."""
    host = cls(
        arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=4,
        **kwargs,
    )
    host.eval()
    return host


def to_paper(state):
    """timm's keys as the paper's release has them, with its buffers."""
    paper = {}
    for key, value in state.items():
        key = re.sub(
            r'^layers\.(\d+)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', key
        )
        paper[key.replace('head.fc.', 'head.')] = value
    for block in ('layers.0.blocks.0', 'layers.1.blocks.1'):
        paper[f'{block}.attn.relative_position_index'] = torch.zeros(16, 16)
        paper[f'{block}.attn_mask'] = torch.zeros(4, 16, 16)
    return paper


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Save, convert in this process, load what was written."""

    def run(content, *arguments, out='out.pth'):
        source, out = tmp_path / 'in.pth', tmp_path / out
        torch.save(content, source)
        with one_line_errors('convert'):
            main([str(source), str(out), *map(str, arguments)])
        run.said = capsys.readouterr().out
        return torch.load(out)

    return run


def part(checkpoint, prefix):
    """Weights under a prefix, of a checkpoint in mmpretrain's layout."""
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint['state_dict'].items()
        if key.startswith(prefix)
    }


def same_tensors(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_the_papers_keys_are_what_timm_takes_them_for():
    """timm reads the release too, so it vouches for ``to_paper``."""
    source = make_swin()
    state = dict(source.state_dict())
    read = timm.models.swin_transformer.checkpoint_filter_fn(dict(model=to_paper(state)), source)
    same_tensors(read, state)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_swin_computes_the_same_features(convert, layout):
    source = make_swin()
    state = source.state_dict()
    content = state if layout == 'timm' else dict(model=to_paper(state))
    converted = convert(content)
    host = host_swin()
    host.load_state_dict(part(converted, 'backbone.'), strict=True)
    count = len(converted['state_dict'])
    assert (
        f"out.pth: {count} tensors in the layout of 'mmpretrain'; they "
        'load strictly into SwinTransformer'
    ) in convert.said

    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (ours,) = host(images)
        theirs = source.forward_features(images).permute(0, 3, 1, 2)
        logits = source(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    head = part(converted, 'head.fc.')
    torch.testing.assert_close(
        ours.mean((2, 3)) @ head['weight'].T + head['bias'], logits, rtol=1e-4, atol=1e-3
    )


def test_features_notice_merging_in_another_order():
    """The comparison above would fail without the permutation."""
    source = make_swin()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = source.forward_features(images)
        weight = source.layers[1].downsample.reduction.weight
        weight.copy_(weight.unflatten(1, (2, 2, -1)).transpose(1, 3).flatten(1))
        after = source.forward_features(images)
    assert (before - after).abs().max() > 0.1


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_swin_goes_back_to_where_it_came_from(convert, layout):
    state = dict(make_swin().state_dict())
    host = convert(state)
    back = convert(host, '--to', layout)
    if layout == 'paper':
        plain = {
            key: value
            for key, value in to_paper(state).items()
            if not key.endswith(('index', 'mask'))
        }
        same_tensors(back['model'], plain)
    else:
        same_tensors(back, state)
        timm.models.SwinTransformer(**SWIN).load_state_dict(back, strict=True)
    assert f"in the layout of '{layout}'; converted back" in convert.said


def cubic(distance, a=-0.75):
    """Keys' cubic convolution kernel, with the parameter torch has."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * (d**3 - 5 * d**2 + 8 * d - 4)
    return 0.0


def resample(n_old, n_new):
    """Matrix (n_new, n_old) of bicubic weights; borders are repeated."""
    matrix = np.zeros((n_new, n_old))
    for i in range(n_new):
        at = (i + 0.5) * n_old / n_new - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            matrix[i, min(max(j, 0), n_old - 1)] += cubic(at - j)
    return matrix


@pytest.mark.parametrize('window_size', [6, 3])
def test_tables_are_resized_as_an_independent_interpolation_does(convert, window_size):
    first = convert(dict(make_swin().state_dict()))
    resized = convert(first, '--window-size', window_size)
    matrix = resample(7, 2 * window_size - 1)
    key = 'backbone.stages.1.blocks.1.attn.w_msa.relative_position_bias_table'
    table = first['state_dict'][key].double().numpy().reshape(7, 7, 2)
    expected = np.einsum('ik,jl,klh->ijh', matrix, matrix, table)
    np.testing.assert_allclose(
        resized['state_dict'][key].numpy(), expected.reshape(-1, 2), rtol=1e-4, atol=1e-5
    )
    # What is no table stays; the indices are those of the new window.
    host = host_swin(window_size=window_size)
    for key, value in first['state_dict'].items():
        own = resized['state_dict'][key]
        if key.endswith('relative_position_index'):
            assert torch.equal(own, host.get_buffer(key.removeprefix('backbone.'))), key
        elif not key.endswith('relative_position_bias_table'):
            assert torch.equal(own, value), key
    host.load_state_dict(part(resized, 'backbone.'), strict=True)


@pytest.mark.parametrize(
    'kwargs, host_kwargs',
    [
        ({}, {}),
        (dict(qkv_bias=False), dict(qkv_bias=False)),
        (dict(global_pool='avg', fc_norm=True), dict(out_type='avg_featmap', final_norm=False)),
    ],
    ids=['deit', 'without-bias', 'avg_featmap'],
)
def test_deit_computes_the_same_features(convert, kwargs, host_kwargs):
    source = randomize(timm.models.VisionTransformer(**VIT, **kwargs))
    converted = convert(dict(model=source.state_dict()))
    host = host_vit(**host_kwargs)
    host.load_state_dict(part(converted, 'backbone.'), strict=True)
    head = part(converted, 'head.layers.head.')
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        (ours,) = host(images)
        torch.testing.assert_close(
            ours @ head['weight'].T + head['bias'], source(images), rtol=1e-4, atol=1e-4
        )
    back = convert(converted, '--to', 'timm')
    same_tensors(back, dict(source.state_dict()))


def make_distilled():
    from timm.models.deit import VisionTransformerDistilled

    return randomize(VisionTransformerDistilled(**VIT))


def test_a_distilled_deit_computes_the_same_features(convert):
    source = make_distilled()
    converted = convert(dict(source.state_dict()))
    host = host_vit(DistilledVisionTransformer)
    host.load_state_dict(part(converted, 'backbone.'), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        (tokens,) = host(images)
        features = source.forward_features(images)
    for i in range(2):
        torch.testing.assert_close(tokens[i], features[:, i], rtol=1e-4, atol=1e-4)
    assert 'head.layers.head_dist.weight' in converted['state_dict']
    back = convert(converted, '--to', 'timm')
    same_tensors(back, dict(source.state_dict()))


def test_without_distillation_a_deit_is_plain(convert):
    state = dict(make_distilled().state_dict())
    converted = convert(state, '--drop-distillation')
    assert not any('dist' in key for key in converted['state_dict'])
    position = converted['state_dict']['backbone.pos_embed']
    assert torch.equal(position[:, 0], state['pos_embed'][:, 0])
    assert torch.equal(position[:, 1:], state['pos_embed'][:, 2:])
    assert 'VisionTransformer' in convert.said


@pytest.mark.parametrize(
    'content, arguments, complaint',
    [
        (
            dict(a=torch.zeros(1)),
            [],
            'is no LV-ViT, BEiT, DeiT or ViT, Swin v2, Swin, PVT v2, Twins in a layout that is '
            "known: its first key is 'a'",
        ),
        ({}, [], 'there are none'),
        (dict(a=torch.zeros(1)), ['--window-size', 0], '--window-size 0 must be at least 1'),
        (
            {'blocks.0.norm1.weight': torch.zeros(1)},
            ['--window-size', 7],
            "--window-size is for Swin, and '.*in.pth' is a DeiT or ViT",
        ),
        (
            {'layers.0.downsample.': torch.zeros(1)},
            ['--drop-distillation'],
            "--drop-distillation is for DeiT or ViT, and '.*in.pth' is a Swin",
        ),
        (
            {'blocks.0.norm1.weight': torch.zeros(1)},
            ['--to', 'paper'],
            '--to paper: a DeiT or ViT has the layouts mmpretrain, timm',
        ),
    ],
)
def test_mistakes_are_told_in_one_line(convert, content, arguments, complaint):
    with pytest.raises(SystemExit, match=complaint) as error:
        convert(content, *arguments)
    assert '\n' not in error.value.code


@pytest.mark.parametrize(
    'out, complaint',
    [
        ('gone/out.pth', "folder '.*/gone' of the output does not exist"),
        ('.', 'is a folder; name a file'),
        ('in.pth', r"in\.pth' is the input, which would be lost"),
        ('link.pth', r"link\.pth' is the input, which would be lost"),
        ('out.safetensors', r'would be a \.pth file for all its name'),
    ],
)
def test_no_place_for_the_output(convert, tmp_path, out, complaint):
    (tmp_path / 'link.pth').symlink_to('in.pth')
    content = dict(a=torch.ones(1))  # no model: the place is looked at first
    with pytest.raises(SystemExit, match=complaint) as error:
        convert(content, out=out)
    assert '\n' not in error.value.code
    same_tensors(torch.load(tmp_path / 'in.pth'), content)
    assert {path.name for path in tmp_path.iterdir()} == {'in.pth', 'link.pth'}


def test_what_a_stock_model_cannot_hold_is_refused(convert, tmp_path):
    state = dict(make_swin().state_dict())
    state['layers.0.blocks.0.attn.more'] = torch.zeros(1)
    with pytest.raises(
        SystemExit,
        match="does not fit mmpretrain's Swin"
        r'Transformer: 1 keys unknown.*w_msa\.more',
    ):
        convert(state)
    assert not (tmp_path / 'out.pth').exists()

    state = dict(make_swin().state_dict())
    state['norm.bias'] = torch.full((len(state['norm.bias']),), torch.nan)
    with pytest.raises(SystemExit, match=r'norm\.bias holds values that are not finite'):
        convert(state)

    state = dict(make_distilled().state_dict())
    state['blocks.0.attn.q_norm.weight'] = torch.zeros(8)
    with pytest.raises(SystemExit, match=r"'blocks\.0\.attn\.q_norm\.weight', which no"):
        convert(state)

    state = dict(randomize(timm.models.VisionTransformer(**VIT)).state_dict())
    state['pos_embed'] = state['pos_embed'][:, :15].clone()
    with pytest.raises(SystemExit, match='14 patches.*no square'):
        convert(state)

    state = dict(randomize(timm.models.VisionTransformer(**VIT)).state_dict())
    with pytest.raises(SystemExit, match='has no distillation token'):
        convert(state, '--drop-distillation')
