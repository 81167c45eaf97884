"""Version of this package and of the packages it works with."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version

__version__ = '0.1.0'

# Import name: (distribution, lowest release, first release that is too new).
# The lowest releases are the pins of requirements/*.txt.
REQUIRED = dict(
    torch=('torch', '2.10.0', '2.11'),
    mmengine=('onedl-mmengine', '0.10.12', '0.11'),
    mmcv=('onedl-mmcv', '2.3.6', '2.4'),
    mmpretrain=('onedl-mmpretrain', '1.3.6', '1.4'),
    mmdet=('onedl-mmdetection', '3.5.1', '3.6'),
    mmseg=('onedl-mmsegmentation', '1.4.2', '1.5'),
)


def release(version):
    """Numbers of a version, three at most: ``'2.10.0a0+cu128'`` gives ``(2, 10, 0)``.

    Local and pre-release parts are left out, so that a vendor's own build of
    a release counts as that release.
    """
    return tuple(int(n) for n in re.findall(r'\d+', version)[:3])


def installed_version(name):
    """Version of a package in ``REQUIRED``, without importing it; None if it is not installed.

    That of the module itself where it is imported already, else that of the
    distribution: the maintained fork's, or OpenMMLab's own.
    """
    if name in sys.modules:
        return getattr(sys.modules[name], '__version__', None)
    for distribution in (REQUIRED[name][0], name):
        try:
            return version(distribution)
        except PackageNotFoundError:
            pass
    return None


def check_versions(*names):
    """Refuse packages of ``REQUIRED`` that are missing or of another release.

    Raises:
        ImportError: Naming what is installed, what is needed and the remedy.
    """
    for name in names:
        distribution, low, high = REQUIRED[name]
        found = installed_version(name)
        if found and release(low) <= release(found) < release(high):
            continue
        raise ImportError(
            f'mmtlalign {__version__} needs {name} >= {low}, < {high} (pip package '
            f'{distribution}), but {found or "no such package"} is installed. Run `bash '
            f'tools/setup_env.sh`, or `pip install "{distribution}=={low}"`.'
        )
