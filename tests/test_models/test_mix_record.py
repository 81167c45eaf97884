"""The record comes through the wrappers of distributed training untouched."""

import copy
from functools import partial

import pytest
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


WRAPPERS = dict(
    ddp=MMDistributedDataParallel,
    fsdp1=partial(
        FullyShardedDataParallel,
        mixed_precision=MixedPrecision(param_dtype=BF16),
        use_orig_params=True,
        device_id=torch.device('cpu'),
    ),
    fsdp2=partial(fully_shard, mp_policy=MixedPrecisionPolicy(param_dtype=BF16)),
)


def send(rank):
    """What each wrapper was given, and what arrived in `loss`."""
    results = {}
    for name, wrap in WRAPPERS.items():
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
        results[name] = dict(
            sent=[getattr(sent, name) for name in FIELDS],
            arrived=[getattr(record, name) for name in FIELDS],
            dtype=str(dtype),
            finite=bool(losses['loss'].isfinite()),
            lam=losses['lam'].detach(),
        )
    return results


@pytest.mark.slow
def test_untouched_by_ddp_fsdp1_and_fsdp2_in_bfloat16(tmp_path):
    ranks = run_two_processes(send, tmp_path)
    for results in ranks:
        dtypes = {name: result['dtype'] for name, result in results.items()}
        cast = 'torch.bfloat16'  # inputs are, unlike the record
        assert dtypes == dict(ddp='torch.float32', fsdp1=cast, fsdp2=cast)
        for result in results.values():
            for sent, arrived in zip(result['sent'], result['arrived']):
                assert sent.dtype == arrived.dtype
                assert torch.equal(sent, arrived)
            lam = result['sent'][2]
            assert (lam != lam.bfloat16()).all(), 'a cast would show'
            assert result['finite'] and torch.allclose(result['lam'], lam.mean())
    assert not torch.equal(ranks[0]['ddp']['sent'][2], ranks[1]['ddp']['sent'][2])
