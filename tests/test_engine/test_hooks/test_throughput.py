"""Rates in the log, recomputed."""

import pytest
import torch

from mmtlalign.engine.hooks.throughput import known_peak

from ..toy import Model, runner


@pytest.mark.parametrize(
    'name, peak',
    [
        ('NVIDIA H100 PCIe', 756),
        ('NVIDIA H100 80GB HBM3', 989),
        ('NVIDIA A10G', None),
        (None, None),
    ],
)
def test_peaks_are_those_of_exactly_this_gpu(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: name is not None)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: name)
    assert known_peak() == peak


@pytest.mark.parametrize('peak', [None, 1e-6])
def test_rates_follow_from_times_and_shapes(tmp_path, peak):
    """Two images of three numbers a step, and one linear layer."""
    run = runner(tmp_path, Model(), [dict(type='mmtlalign.Throughput', peak_tflops=peak)])
    run.train()
    hub = run.message_hub
    seconds = hub.get_scalar('train/time').mean(10)
    assert hub.get_scalar('train/images_per_second').current() == pytest.approx(2 / seconds)
    assert ('train/mfu' in hub.log_scalars) == (peak is not None)
    if peak:  # 2 x 3 multiply-adds, forward and for the weight's gradient
        flops = hub.get_scalar('train/mfu').current() * seconds * peak * 1e12
        assert flops == pytest.approx(2 * (2 * 2 * 3))


@pytest.mark.slow
def test_steps_are_compiled_after_the_one_that_is_counted(tmp_path):
    run = runner(tmp_path, Model(), [dict(type='mmtlalign.Throughput', peak_tflops=1.0)])
    graphs = []
    run.model.forward = torch.compile(
        run.model.forward, backend=lambda graph, inputs: graphs.append(graph) or graph.forward
    )
    run.train()
    assert graphs and run.message_hub.get_scalar('train/mfu').current() > 0
