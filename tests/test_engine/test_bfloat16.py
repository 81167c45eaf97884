"""Training in bfloat16 on the CPU."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmtlalign.engine.optimizers import bfloat16_optim_wrapper


class Toy(BaseModel):
    """A layer that remembers what it computed in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs, data_samples=None, mode='loss'):
        out = self.layer(inputs)
        self.dtype = out.dtype
        return dict(loss=out.float().square().sum())


def step(model, wrapper, inputs):
    wrapper = OPTIM_WRAPPERS.build(
        dict(type=wrapper, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    )
    model.train_step(dict(inputs=inputs), wrapper)
    return model.layer.weight.detach()


def test_a_step_computes_in_bfloat16_and_keeps_weights_in_float32():
    torch.manual_seed(0)
    model, inputs = Toy(), torch.randn(3, 4)
    twin = copy.deepcopy(model)
    weight = step(model, 'mmtlalign.BFloat16OptimWrapper', inputs)
    expected = step(twin, 'OptimWrapper', inputs)
    assert model.dtype == torch.bfloat16 and twin.dtype == torch.float32
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, expected)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-2)
    model(inputs)
    assert model.dtype == torch.float32, 'outside of steps nothing is cast'


@pytest.mark.parametrize('native', [True, False])
def test_a_processor_that_emulates_it_is_named(native, monkeypatch):
    monkeypatch.setattr(bfloat16_optim_wrapper, 'is_fast_on_cpu', lambda: native)
    said = []
    monkeypatch.setattr(
        bfloat16_optim_wrapper, 'print_log', lambda words, **kwargs: said.append(words)
    )
    monkeypatch.setattr(bfloat16_optim_wrapper, 'get_device', lambda: 'cpu')
    step(Toy(), 'mmtlalign.BFloat16OptimWrapper', torch.randn(3, 4))
    assert [words.startswith('bfloat16 is slow here') for words in said] == [True] * (not native)
