"""Models by name, config or file."""

import os
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from mmtlalign.apis.channel_order import for_files
from mmtlalign.checkpoint import check_checkpoint
from mmtlalign.errors import UserError
from mmtlalign.host_check import check_device, check_host
from mmtlalign.old_arguments import modernise
from mmtlalign.resources import check_model, open_config

from .zoo import find_weights


def get_model(
    model: str | os.PathLike | Config,
    pretrained: bool | str | os.PathLike = False,
    device: str | torch.device | None = None,
    *,
    trust: bool = False,
) -> BaseModel:
    """Build a classifier, detector or segmenter, in evaluation mode.

    As ``mmpretrain.get_model``, but for all three hosts, and strict: weights that do not all fit
    are an error. Weights that an ``init_cfg`` names are those to start a training from, and are not
    loaded here.

    Args:
        model (str | PathLike | Config): Name of a config that comes along
            (``'tlalign_deit-small_8xb128_in1k'``), path of a config, or a config, which is left as
            it is.
        pretrained (bool | str | PathLike): File or http(s) address of a checkpoint. True stands for
            the published weights of the name, or the config's ``load_from``. Defaults to False,
            random weights.
        device (str | torch.device, optional): Where to move the model. Defaults to None, the CPU.
        trust (bool): Also load checkpoints that hold more than weights, which may run code, and
            configs in YAML or JSON that name code. Defaults to False.

    Returns:
        BaseModel: With the config as ``cfg`` and, if a checkpoint names its classes, those as
        ``dataset_meta`` (a dict).

    Raises:
        UserError: If there is no such name, config, checkpoint or device, the config cannot be read
            or has no model, or the checkpoint is unsafe or does not fit.
        KeyError: If the config names a type that is not registered.
    """
    cfg = deepcopy(model) if isinstance(model, Config) else open_config(model, trust)
    check_model(cfg)
    check_host(cfg)
    check_device(device)
    modernise(cfg.model)
    if pretrained is True:
        name = Path(cfg.filename or 'a config without a name').stem
        pretrained = find_weights(name, otherwise=cfg.get('load_from'))
    if pretrained == '':
        raise UserError(
            "pretrained='' names no checkpoint; give its path, or False for random weights"
        )
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        built = MODELS.build(cfg.model)
    built.cfg = cfg
    built.dataset_meta = {}
    if pretrained:
        checkpoint = check_checkpoint(built, os.fspath(pretrained), trust)
        meta = checkpoint.get('meta', {})
        built.dataset_meta = meta.get('dataset_meta') or {}
    # the names that mmpretrain's own inferencers, which read files, look for
    built._config, built._dataset_meta = for_files(cfg), built.dataset_meta
    return built.to(device).eval() if device else built.eval()
