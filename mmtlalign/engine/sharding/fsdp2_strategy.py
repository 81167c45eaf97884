"""Training with weights, gradients and optimizer in shards: FSDP2."""

import copy
import time
from collections.abc import Callable
from functools import partial

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner.checkpoint import save_checkpoint
from mmengine.utils import get_git_hash
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mmtlalign.registry import STRATEGIES

from .layers import transformer_layers
from .tensors import gather, like_shards


@STRATEGIES.register_module()
class FSDP2Strategy(DDPStrategy):
    """``torch.distributed.fsdp.fully_shard``, which mmengine has no strategy for.

    Every transformer layer of the backbone is a unit of its own, gathered for its forward and again
    for its backward; all else is one more. Weights and what the optimizer holds stay in float32.
    Norms of gradients are those of all shards.

    A checkpoint is that of an unsharded training, in one file, which the main
    process writes: each kind resumes the other.
    """

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build, and remember how, for copies."""
        if isinstance(model, dict):
            self._model_cfg = copy.deepcopy(model)
        return super().build_model(model)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = self.convert_model(model.to(get_device()))
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        layers = transformer_layers(model)
        for module in (*layers, model):
            # also the root: hooks read its shards after a validation
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        model.__dict__['__deepcopy__'] = partial(self._copy, model)
        self.logger.info(
            f'Sharded over {mesh.size()} processes: {len(layers)} transformer layers, and the rest'
        )
        return model

    def _copy(self, model: nn.Module, memo: dict) -> nn.Module:
        """A model of the same shards, for averages; torch refuses to copy."""
        with torch.random.fork_rng(devices=[]):
            other = self._wrap_model(super().build_model(copy.deepcopy(self._model_cfg)))
        other.load_state_dict(model.state_dict())
        return other.train(model.training)

    def model_state_dict(self) -> dict:
        """Weights in shards, where they are."""
        return self.model.state_dict()

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Gather what :class:`SingleDeviceStrategy` saves, and save it.

        All processes have to call it; the main one writes.
        """
        checkpoint = dict(extra_ckpt or {}, state_dict=self.model_state_dict())
        if save_optimizer:
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        checkpoint.setdefault('meta', {}).update(
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine_version=mmengine.__version__ + get_git_hash(),
        )
        if callback is not None:
            callback(checkpoint)
        checkpoint = gather(checkpoint)
        if is_main_process():
            save_checkpoint(checkpoint, filename)

    def load_checkpoint(self, filename: str, *, callback: Callable | None = None, **kwargs) -> dict:
        """Load a checkpoint with whole tensors, averages among them."""

        def shard(checkpoint: dict) -> None:
            own = self.model_state_dict()
            for part in {'state_dict', 'ema_state_dict'} & checkpoint.keys():
                checkpoint[part] = {
                    key: like_shards(value, own.get(key.removeprefix('module.')))
                    for key, value in checkpoint[part].items()
                }
            if callback is not None:
                callback(checkpoint)

        return super().load_checkpoint(filename, callback=shard, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load what an optimizer of whole weights, or of shards, has held."""
        groups = self.optim_wrapper.optimizer.param_groups
        own = [weight for group in groups for weight in group['params']]
        saved = [key for group in state_dict['param_groups'] for key in group['params']]
        of_key = dict(zip(saved, own, strict=True))
        state = {
            key: {
                name: like_shards(value, of_key[key]) if torch.is_tensor(value) else value
                for name, value in held.items()
            }
            for key, held in state_dict['state'].items()
        }
        super().load_optim_state_dict(dict(state_dict, state=state))
