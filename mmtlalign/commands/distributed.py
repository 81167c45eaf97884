"""Several processes without a GPU, which mmengine does not manage alone."""

import atexit
import gc

import torch
import torch.distributed as dist

# Before there is a group: DistributedDataParallel imports it too, and its
# functions' defaults keep the group there is by then for good.
import torch.distributed.nn
from mmengine.config import Config

from mmtlalign.errors import UserError


def use_gloo_without_gpu(cfg: Config) -> None:
    """Prepare a config for distributed training on CPUs, for which the launcher is ``pytorch``.

    mmengine's ``init_dist`` always selects a CUDA device, and its default wrapper always passes
    device ids. It leaves a process group that already exists alone, so on a machine without a GPU
    the group is made here, with gloo, and the wrapper is configured without device ids.
    """
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs and this machine has '
            'none; on CPUs use tools/dist_train.sh (--launcher pytorch)'
        )
    dist.init_process_group('gloo')
    atexit.register(leave_group)
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.update(cfg.get('model_wrapper_cfg') or {}, device_ids=None)
    cfg.model_wrapper_cfg = wrapper


def leave_group() -> None:
    """End gloo's threads: one that outlives the interpreter can abort it.

    They end with the last reference to the group. Models hold one, in a
    runner that refers to itself.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()
