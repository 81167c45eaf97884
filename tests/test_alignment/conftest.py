"""Both kinds of activation checkpointing, and the log of kernels, for whatever test asks."""

import functools

import pytest


@pytest.fixture(params=[True, False], ids=['reentrant', 'non-reentrant'])
def run_checkpoint(request, monkeypatch):
    """``checkpoint`` of one kind, also where the hosts call it."""
    from mmengine.runner import activation_checkpointing
    from torch.utils import checkpoint

    one_kind = functools.partial(checkpoint.checkpoint, use_reentrant=request.param)
    monkeypatch.setattr(checkpoint, 'checkpoint', one_kind)
    monkeypatch.setattr(activation_checkpointing, 'checkpoint', one_kind)
    return one_kind


@pytest.fixture
def logged(monkeypatch):
    """(level, line) of the log of the choice of kernels; nothing has been chosen yet."""
    from mmtlalign.alignment.kernels import choice

    lines = []
    monkeypatch.setattr(choice, '_chosen', {})
    monkeypatch.setattr(
        choice.logger, 'log', lambda level, message, *args: lines.append((level, message % args))
    )
    return lines
