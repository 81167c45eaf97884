"""Training in bfloat16 on the CPU."""

import copy

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner

from mmtlalign.engine.optimizers import bfloat16_optim_wrapper

from .toy import LOADER, Model


def step(model, wrapper):
    wrapper = OPTIM_WRAPPERS.build(
        dict(type=wrapper, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    )
    model.train_step(next(iter(Runner.build_dataloader(LOADER))), wrapper)
    return model.linear.weight.detach()


def test_a_step_computes_in_bfloat16_and_keeps_weights_in_float32():
    model, computed = Model(), []
    model.linear.register_forward_hook(lambda module, inputs, out: computed.append(out.dtype))
    twin = copy.deepcopy(model)
    expected = step(twin, 'OptimWrapper')
    weight = step(model, 'mmtlalign.BFloat16OptimWrapper')
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, expected)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-2)
    model.linear(torch.ones(1, 3))
    # outside of steps nothing is cast
    assert computed == [torch.float32, torch.bfloat16, torch.float32]


@pytest.mark.parametrize('native', [True, False])
def test_a_processor_that_emulates_it_is_named(native, monkeypatch):
    monkeypatch.setattr(bfloat16_optim_wrapper, 'is_fast_on_cpu', lambda: native)
    said = []
    monkeypatch.setattr(
        bfloat16_optim_wrapper, 'print_log', lambda words, **kwargs: said.append(words)
    )
    monkeypatch.setattr(bfloat16_optim_wrapper, 'get_device', lambda: 'cpu')
    step(Model(), 'mmtlalign.BFloat16OptimWrapper')
    assert [words.startswith('bfloat16 is slow here') for words in said] == [True] * (not native)
