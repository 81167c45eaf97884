"""Whether this machine has what a config needs."""

from importlib import import_module

import torch
from mmengine.config import Config

from mmtlalign.version import check_versions

from .config_nodes import walk
from .errors import UserError

SYNC_BNS = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')


def check_host(cfg: Config) -> None:
    """Raise a UserError if the config's host package or mmcv's operators are missing, naming the
    command that installs them; classification needs neither."""
    host = cfg.get('default_scope')
    if host not in ('mmdet', 'mmseg'):
        return
    try:
        check_versions(host)
        import_module('mmcv.ops')
        import_module(host)
    except ImportError as error:
        raise UserError(
            f'{host} configs need {host} and the compiled operators of mmcv; '
            f'run `bash tools/setup_env.sh --ops` ({error})'
        ) from error


def check_device(device: str | torch.device | None) -> None:
    """Raise a UserError if torch can put nothing on a device; None is one."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # the former without CUDA
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device '{device}' cannot be used ({reason}); choose cpu, or cuda where there is a GPU"
        ) from error


def check_sync_bn(cfg: Config) -> None:
    """Raise a UserError if the model is to synchronize batch norms without a GPU."""
    if torch.cuda.is_available():
        return
    kinds = [(where, getattr(kind, '__name__', kind)) for where, kind in walk(cfg.model, 'model')]
    for where, kind in [*kinds, ('sync_bn', cfg.get('sync_bn'))]:
        is_layer = where.endswith('.type') and str(kind).split('.')[-1] in SYNC_BNS
        if is_layer or (where == 'sync_bn' and kind):
            raise UserError(
                f'{where}={kind} needs a GPU and this machine has none; set --cfg-options '
                f'{where}={"BN" if is_layer else None}'
            )
