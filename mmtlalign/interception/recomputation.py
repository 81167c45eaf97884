"""What activation checkpointing is doing right now."""

import torch


def inside_checkpoint() -> bool:
    """Whether this forward keeps nothing for the backward, or leaves that to activation
    checkpointing, whose recomputation must meet the same saved tensors: reentrant checkpointing
    disables gradients, the other kind installs hooks for saved tensors."""
    if torch.compiler.is_compiling():
        return False
    if not torch.is_grad_enabled():
        return True
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and hooks[0].__module__ == 'torch.utils.checkpoint'


def inside_backward() -> bool:
    """Whether the autograd engine is at work on this thread, that is, whether
    a forward running now is a recomputation."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._current_graph_task_id() != -1
