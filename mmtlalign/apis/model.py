"""Models by name, config or file."""
import os
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from mmtlalign.utils import (
    UserError,
    check_checkpoint,
    check_host,
    find_config,
)
from mmtlalign.utils.resources import ROOT


def get_model(model: str | os.PathLike | Config,
              pretrained: bool | str | os.PathLike = False,
              device: str | torch.device | None = None, *,
              trust: bool = False) -> BaseModel:
    """Build a classifier, detector or segmenter, in evaluation mode.

    As ``mmpretrain.get_model``, but for all three hosts, and strict: weights
    that do not all fit are an error. Weights that an ``init_cfg`` names are
    those to start a training from, and are not loaded here.

    Args:
        model (str | PathLike | Config): Name of a config that comes along
            (``'tlalign_deit-small_8xb128_in1k'``), path of a config, or a
            config, which is left as it is.
        pretrained (bool | str | PathLike): File or http(s) address of a
            checkpoint. True stands for the published weights of the name, or
            the config's ``load_from``. Defaults to False, random weights.
        device (str | torch.device, optional): Where to move the model.
            Defaults to None, the CPU.
        trust (bool): Also load checkpoints that hold more than weights, which
            may run code. Defaults to False.

    Returns:
        BaseModel: With the config as ``cfg`` and, if a checkpoint names its
        classes, those as ``dataset_meta`` (a dict).

    Raises:
        UserError: If there is no such name, config or checkpoint, or the
            checkpoint is unsafe or does not fit.
    """
    cfg = (deepcopy(model) if isinstance(model, Config)
           else Config.fromfile(find_config(model)))
    check_host(cfg)
    path = _find_weights(model, cfg, pretrained)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(
            cfg.get('default_scope', 'mmpretrain')):
        built = MODELS.build(cfg.model)
    built.cfg = cfg
    built.dataset_meta = {}
    if path:
        meta = check_checkpoint(built, path, trust).get('meta', {})
        built.dataset_meta = meta.get('dataset_meta') or {}
    # the names that mmpretrain's own inferencers look for
    built._config, built._dataset_meta = built.cfg, built.dataset_meta
    return built.to(device).eval() if device else built.eval()


def _find_weights(model, cfg: Config, pretrained) -> str | None:
    """The checkpoint that is meant, if one is."""
    if pretrained is not True:
        return os.fspath(pretrained) if pretrained else None
    entry = ({} if isinstance(model, Config)
             else _read_metafiles().get(model, {}))
    path = entry.get('Weights') or cfg.get('load_from')
    if not path:
        raise UserError(
            'pretrained=True, but no weights are published for this model; '
            'train it, and give the path of its checkpoint')
    return path


def _read_metafiles() -> dict[str, dict]:
    """Entries of all metafiles by name."""
    return {entry['Name']: entry
            for path in load(ROOT / 'model-index.yml')['Import']
            for entry in load(ROOT / path).get('Models', [])}
