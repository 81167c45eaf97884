"""Targets that watch attention, in a training step, recomputed by hand."""

import pytest
import torch

from .test_tlalign import build, config, data

SOFT = dict(type='CrossEntropyLoss', use_soft=True)


def class_attention(backbone, images, rows):
    """(B, patches): what `rows` of the last block attend to, head mean."""
    x, grid = backbone.patch_embed(images)
    x = torch.cat((backbone.cls_token.expand(len(x), -1, -1), x), 1)
    x = x + backbone.pos_embed
    *layers, last = backbone.layers
    for layer in layers:
        x = layer(x)
    x = last.ln1(x)
    weight, bias = last.attn.qkv.weight, last.attn.qkv.bias
    heads, dims = last.attn.num_heads, x.size(-1)
    q, k, _ = (x @ weight.T + bias).split(dims, dim=-1)
    total = 0
    for h in range(heads):
        part = slice(h * dims // heads, (h + 1) * dims // heads)
        logits = q[..., part] @ k[..., part].transpose(1, 2)
        matrix = (logits / (dims // heads) ** 0.5).softmax(-1)
        total = total + matrix[:, rows].mean(1)[:, 1:]
    return total / heads


def no_drop_path():
    return dict(config()['backbone'], drop_path_rate=0.0)


@pytest.mark.parametrize('watch, rows', [('class', slice(0, 1)), ('patches', slice(1, None))])
def test_attention_target(watch, rows):
    model = build(
        backbone=no_drop_path(),
        loss=SOFT,
        target=dict(type='mmtlalign.AttentionTarget', ratio=0.3, watch=watch),
    )
    model.data_preprocessor.batch_augments.seed(1)
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    mix = batch['mix']
    with torch.no_grad():
        attention = class_attention(model.backbone, batch['inputs'], rows)
        scores = model(batch['inputs'])
    own = mix.token_share.flatten(1)
    share = 0.3 * mix.lam + 0.7 * (own * attention).sum(1) / attention.sum(1)
    labels = torch.eye(5)[:4]
    target = share[:, None] * labels + (1 - share[:, None]) * labels.flip(0)
    loss = -(target * scores.log_softmax(1)).sum(1).mean()
    assert 0 < mix.lam[0] < 1 and (share - mix.lam).abs().max() > 1e-3
    assert losses['loss'].item() == pytest.approx(loss.item(), rel=1e-5)
    assert losses['aligned_share'].item() == pytest.approx(share.mean().item(), rel=1e-5)
    losses['loss'].backward()


def test_progressive_target_trains_through_its_factor():
    model = build(
        backbone=no_drop_path(), loss=SOFT, target=dict(type='mmtlalign.ProgressiveTarget')
    )
    model.data_preprocessor.batch_augments.seed(1)
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    losses['loss'].backward()
    found = model.head.layers.head.weight.grad.clone()
    model.zero_grad()

    mix = batch['mix']
    attention = class_attention(model.backbone, batch['inputs'], slice(0, 1)).detach()
    own = mix.token_share.flatten(1)
    attended = (own * attention).sum(1) / attention.sum(1)
    scores = model(batch['inputs'])
    labels, lam = torch.eye(5)[:4], mix.lam[:, None]
    area = lam * labels + (1 - lam) * labels.flip(0)
    prediction = scores.softmax(1)
    factor = (area * prediction).sum(1) / (area.norm(dim=1) * prediction.norm(dim=1))
    share = (factor * attended + (1 - factor) * mix.lam)[:, None]
    target = share * labels + (1 - share) * labels.flip(0)
    loss = -(target * scores.log_softmax(1)).sum(1).mean()
    loss.backward()
    assert losses['loss'].item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(found, model.head.layers.head.weight.grad)
