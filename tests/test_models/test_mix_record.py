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
from .test_tlalign import build, data, mixing

BF16 = torch.bfloat16
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
    """Hand a batch to every wrapper; what was drawn, if that is what arrived in ``loss``."""
    drawn = []
    for name, wrap in WRAPPERS.items():
        model = build(train_cfg=mixing('Mixup'))
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
        assert dtype == (torch.float32 if name == 'ddp' else BF16), name
        for field in FIELDS:
            before, after = getattr(sent, field), getattr(record, field)
            assert before.dtype == after.dtype and torch.equal(before, after), (name, field)
        assert (sent.lam != sent.lam.bfloat16()).all(), 'a cast would show'
        assert losses['loss'].isfinite() and torch.allclose(losses['lam'], sent.lam.mean())
        drawn.append(sent.lam)
    return torch.stack(drawn)


@pytest.mark.slow
def test_untouched_by_ddp_fsdp1_and_fsdp2_in_bfloat16(tmp_path):
    """Images are cast, unlike the record."""
    ranks = run_two_processes(send, tmp_path)
    assert len(ranks[0]) == 3 and not torch.equal(*ranks)
