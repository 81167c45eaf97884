"""Version of this package and of the packages it works with."""
import re
from importlib import import_module

__version__ = '0.1.0'

# Import name: (distribution, lowest release, first release that is too new).
# The lowest releases are the pins of requirements/*.txt.
REQUIRED = dict(
    torch=('torch', '2.10.0', '2.11'),
    mmengine=('onedl-mmengine', '0.10.12', '0.11'),
    mmcv=('onedl-mmcv', '2.3.6', '2.4'),
    mmpretrain=('onedl-mmpretrain', '1.3.6', '1.4'),
    mmdet=('onedl-mmdetection', '3.5.1', '3.6'),
    mmseg=('onedl-mmsegmentation', '1.4.2', '1.5'))


def release(version):
    """Numbers of a version: ``'2.10.0a0+cu128'`` gives ``(2, 10, 0)``.

    Local and pre-release parts are left out, so that a vendor's own build of
    a release counts as that release.

    Args:
        version (str): A version as in ``module.__version__``.

    Returns:
        tuple[int]: At most three numbers.
    """
    return tuple(int(n) for n in re.findall(r'\d+', version)[:3])


def check_versions(*names):
    """Refuse packages that are missing or of another release.

    Args:
        *names (str): Import names, keys of ``REQUIRED``.

    Raises:
        ImportError: If a package cannot be imported or its ``__version__`` is
            outside its bounds; the message names what is installed, what is
            needed and the remedy.
    """
    for name in names:
        distribution, low, high = REQUIRED[name]
        need = (f'mmtlalign {__version__} needs {name} >= {low}, < {high} '
                f'(pip package {distribution})')
        remedy = (f'Run `bash tools/setup_env.sh`, or '
                  f'`pip install "{distribution}=={low}"`.')
        try:
            installed = import_module(name).__version__
        except ImportError as error:
            raise ImportError(
                f'{need}, but importing {name} failed: {error}. '
                f'{remedy}') from error
        if not release(low) <= release(installed) < release(high):
            raise ImportError(
                f'{need}, but {installed} is installed. {remedy}')
