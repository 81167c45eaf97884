"""What docs/scaling.md computes, counted in a step of two processes."""

import re
import tempfile
from functools import partial

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import distributed
from torch.distributed.tensor import DTensor

from mmtlalign.engine import FSDP2Strategy
from tests.test_engine.toy import VIT
from tests.tiny import ROOT
from tests.two_processes import run_two_processes

# By the names of torch 2.10 and of 2.13, each of which calls one of a pair.
COLLECTIVES = (
    'all_gather_into_tensor',
    'all_gather_single',
    'reduce_scatter_tensor',
    'reduce_scatter_single',
)
MODEL = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=3),
    backbone=dict(
        VIT, arch=dict(embed_dims=64, num_layers=4, num_heads=2, feedforward_channels=128)
    ),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=3, in_channels=64),
)


def step(rank):
    """Bytes that were gathered and scattered in a step, and are held after it."""
    strategy = FSDP2Strategy(
        work_dir=tempfile.mkdtemp(), env_kwargs=dict(launcher='pytorch', randomness=dict(seed=0))
    )
    model, wrapper = strategy.prepare(
        MODEL, optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3))
    )
    moved = []
    for name in filter(partial(hasattr, distributed), COLLECTIVES):
        stock = getattr(distributed, name)

        def counted(*args, _stock=stock, **kwargs):
            tensors = [*args, *kwargs.values()]
            moved.append(max(t.nbytes for t in tensors if isinstance(t, torch.Tensor)))
            return _stock(*args, **kwargs)

        setattr(distributed, name, counted)
    data = dict(inputs=[torch.rand(3, 16, 16)], data_samples=[DataSample().set_gt_label(rank)])
    model.train_step(data, wrapper)
    weights = list(model.parameters())
    held = [*weights, *wrapper.optimizer.state.values()]
    held = [value for one in held for value in (one.values() if isinstance(one, dict) else [one])]
    return dict(
        weights=sum(weight.numel() for weight in weights),
        held=sum(value.to_local().nbytes for value in held if isinstance(value, DTensor)),
        moved=sum(moved),
    )


@pytest.mark.slow
def test_bytes_held_and_sent_are_those_computed(tmp_path):
    names = {}
    page = (ROOT / 'docs/scaling.md').read_text()
    exec(re.search(r'^```python\n(.*?)^```$', page, flags=re.DOTALL | re.MULTILINE)[1], names)
    found = run_two_processes(step, tmp_path)
    weights = found[0]['weights']
    # Gradients are freed by the step; weights and AdamW's two are 12 of 16.
    held = sum(one['held'] for one in found) / 2
    assert held == pytest.approx(names['held'](weights, 2, sharded=True) * 12 / 16, rel=0.02)
    for one in found:  # of a ring of N, each sends (N - 1) / N of what is moved
        # tensors with fewer rows than processes are padded
        assert one['moved'] / 2 == pytest.approx(names['sent'](weights, 2, sharded=True), rel=0.02)
