"""The classifier's option that merges tokens."""

import pytest
import torch

from mmtlalign import TokenKeeping, TokenMerging
from mmtlalign.alignment import LabelTrace

from .test_tlalign import build, data

KEEP = dict(keep_rate=0.5, blocks=[0])


@pytest.mark.parametrize(
    'cfg, cls, arguments',
    [(dict(r=3), TokenMerging, dict(r=3)), (dict(KEEP, type='TokenKeeping'), TokenKeeping, KEEP)],
    ids=['merging', 'keeping'],
)
@pytest.mark.parametrize('target', ['AreaTarget', 'AlignedTarget'])
def test_training_and_inference_merge_alike(cfg, cls, arguments, target):
    kwargs = dict(target=dict(type=f'mmtlalign.{target}'))
    model, plain = build(token_merging=cfg, **kwargs), build(**kwargs)
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.load_state_dict(plain.state_dict())
    for either in (model, plain):
        either.eval()  # no random depth
        either.data_preprocessor.batch_augments.seed(1)

    batch = model.data_preprocessor(data(), training=True)
    images, record = batch['inputs'], batch['mix']
    losses = model(**batch, mode='loss')
    reduction = cls(plain.backbone, **arguments)
    trace = LabelTrace(plain.backbone, token_merging=reduction)
    with trace(record.token_share):
        feats = plain.extract_feat(images)
    share = trace.output_share if target == 'AlignedTarget' else record.lam
    expected = plain.head.loss(feats, batch['data_samples'], mix=record, share=share)
    torch.testing.assert_close(losses['loss'], expected['loss'])

    with cls(plain.backbone, **arguments):
        merged = plain(images)[0]
    torch.testing.assert_close(model(images)[0], merged)
    assert (merged - plain(images)[0]).abs().max() > 1e-3
    assert 'forward' not in vars(model.backbone)
