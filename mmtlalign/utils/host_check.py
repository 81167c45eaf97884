"""Whether what a detection or segmentation config needs is installed."""
from importlib import import_module

from mmengine.config import Config

from mmtlalign.version import check_versions

from .errors import UserError


def check_host(cfg: Config) -> None:
    """Raise if the config's host package or mmcv's operators are missing.

    Args:
        cfg (Config): Its ``default_scope`` tells the host. Classification
            needs no more than the package's own requirements.

    Raises:
        UserError: Naming what is missing and the command that installs it.
    """
    host = cfg.get('default_scope')
    if host not in ('mmdet', 'mmseg'):
        return
    try:
        import_module('mmcv.ops')
        check_versions(host)
    except ImportError as error:
        raise UserError(
            f'{host} configs need {host} and the compiled operators of mmcv; '
            f'run `bash tools/setup_env.sh --ops` ({error})') from error
