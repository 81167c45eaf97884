"""The record comes through the wrappers of distributed training untouched."""

import copy

import torch
from mmengine.model import MMDistributedDataParallel
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    fully_shard,
)

from ..two_processes import run_two_processes
from .test_tlalign import build, data

BF16 = torch.bfloat16
MIXUP = dict(augments=[dict(type='mmtlalign.Mixup', patch_size=4)])
FIELDS = ('partner', 'token_share', 'lam', 'pixel_share')


def ddp(model):
    return MMDistributedDataParallel(model)


def fsdp1(model):
    return FullyShardedDataParallel(
        model,
        mixed_precision=MixedPrecision(param_dtype=BF16),
        use_orig_params=True,
        device_id=torch.device('cpu'),
    )


def fsdp2(model):
    return fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=BF16))


def send(rank):
    """What each wrapper was given, and what arrived in `loss`."""
    results = {}
    for wrap in (ddp, fsdp1, fsdp2):
        model = build(train_cfg=MIXUP)
        model.data_preprocessor.batch_augments.seed(rank)
        batch = model.data_preprocessor(data(), training=True)
        sent = copy.deepcopy(batch['mix'])
        arrived, loss = [], model.loss

        def watched(inputs, data_samples, mix=None, arrived=arrived, loss=loss):
            arrived.append((mix, inputs.dtype))
            return loss(inputs, data_samples, mix)

        model.loss = watched
        losses = wrap(model)(**batch, mode='loss')
        losses['loss'].backward()
        ((record, dtype),) = arrived
        results[wrap.__name__] = dict(
            sent=[getattr(sent, name) for name in FIELDS],
            arrived=[getattr(record, name) for name in FIELDS],
            dtype=str(dtype),
            finite=bool(losses['loss'].isfinite()),
            lam=losses['lam'].detach(),
        )
    return results


def test_untouched_by_ddp_fsdp1_and_fsdp2_in_bfloat16(tmp_path):
    ranks = run_two_processes(send, tmp_path)
    for results in ranks:
        assert results['fsdp1']['dtype'] == results['fsdp2']['dtype'] == 'torch.bfloat16', (
            'inputs are cast, unlike the record'
        )
        assert results['ddp']['dtype'] == 'torch.float32'
        for result in results.values():
            for sent, arrived in zip(result['sent'], result['arrived']):
                assert sent.dtype == arrived.dtype
                assert torch.equal(sent, arrived)
            lam = result['sent'][2]
            assert (lam != lam.bfloat16()).all(), 'a cast would show'
            assert result['finite'] and torch.allclose(result['lam'], lam.mean())
    assert not torch.equal(ranks[0]['ddp']['sent'][2], ranks[1]['ddp']['sent'][2])
