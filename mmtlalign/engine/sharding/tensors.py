"""Between tensors in shards and whole ones."""

import copy
from typing import Any

from mmengine.dist import all_reduce, is_main_process
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Tensor) -> Tensor:
    """A tensor without shards; all processes have to ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def own_part(value: Tensor) -> Tensor:
    """This process's shard, which can be empty; what has no shards, as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def is_finite(value: Tensor) -> bool:
    """Whether all of a tensor is; all processes have to ask of a sharded one."""
    finite = own_part(value).isfinite().all().int()
    if isinstance(value, DTensor):
        all_reduce(finite, 'min')
    return bool(finite)


def gather(value: Any) -> Any:
    """Nested dicts and lists with whole tensors in place of sharded ones.

    One tensor at a time is whole on the devices. The main process keeps them,
    on the CPU; the others keep None.
    """
    if isinstance(value, DTensor):
        full = value.detach().full_tensor()
        return full.cpu() if is_main_process() else None
    if isinstance(value, dict):
        gathered = copy.copy(value)  # with the metadata of a state_dict
        gathered.update((key, gather(child)) for key, child in value.items())
        return gathered
    if isinstance(value, (list, tuple)):
        return type(value)(map(gather, value))
    return value


def like_shards(value: Tensor, own: Any) -> Tensor:
    """This process's shard of a whole tensor that is the same in all, cut as its own tensor is; the
    tensor as it is where that has no shards."""
    if not isinstance(own, DTensor) or isinstance(value, DTensor) or value.shape != own.shape:
        return value
    value = value.to(own.device)
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
