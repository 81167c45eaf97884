"""Models by name, config or file."""
import os
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

import mmtlalign
from mmtlalign.utils import (
    UserError,
    check_checkpoint,
    check_file,
    check_host,
)

ROOT = Path(mmtlalign.__file__).resolve().parents[1]


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
    cfg, published = _find(model)
    check_host(cfg)
    path = _find_weights(cfg, published, pretrained)
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


def _find(model) -> tuple[Config, str | None]:
    """A copy of the config, and the address of its published weights."""
    if isinstance(model, Config):
        return deepcopy(model), None
    if Path(model).suffix == '.py':
        check_file(str(model), 'config')
        return Config.fromfile(model), None
    models = _read_metafiles()
    if model not in models:
        close = get_close_matches(str(model), models, n=1)
        raise UserError(
            f"model '{model}' is none of the {len(models)} that come along"
            + (f" (closest: '{close[0]}')" if close else '')
            + '; names are those of the files under configs/, or give the '
            'path of a config')
    return (Config.fromfile(ROOT / models[model]['Config']),
            models[model].get('Weights'))


def _read_metafiles() -> dict[str, dict]:
    """Entries of all metafiles by name; none outside of a checkout."""
    index = ROOT / 'model-index.yml'
    if not index.is_file():
        return {}
    return {entry['Name']: entry for path in load(index)['Import']
            for entry in load(ROOT / path).get('Models', [])}


def _find_weights(cfg: Config, published: str | None,
                  pretrained) -> str | None:
    """The checkpoint that is meant, if one is."""
    if pretrained is True:
        path = published or cfg.get('load_from')
        if not path:
            raise UserError(
                'pretrained=True, but no weights are published for this '
                'model; train it, and give the path of its checkpoint')
        return path
    return os.fspath(pretrained) if pretrained else None
