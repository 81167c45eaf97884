"""Registries of mmtlalign (scope ``mmtlalign``).

Children of the hosts' registries. ``locations`` lets mmpretrain, mmdet and
mmseg configs find ``mmtlalign.X`` without ``custom_imports``.
"""

from importlib import import_module
from pkgutil import iter_modules

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import Registry
from mmpretrain.registry import BATCH_AUGMENTS as MMPRETRAIN_BATCH_AUGMENTS

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmtlalign', locations=['mmtlalign.models']
)
# The host's node has no parent of its own, so it must be named here for its
# registry to find ours.
BATCH_AUGMENTS = Registry(
    'batch augment',
    parent=MMPRETRAIN_BATCH_AUGMENTS,
    scope='mmtlalign',
    locations=['mmtlalign.models'],
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmtlalign', locations=['mmtlalign.datasets']
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmtlalign', locations=['mmtlalign.datasets']
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmtlalign', locations=['mmtlalign.engine'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmtlalign',
    locations=['mmtlalign.engine'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmtlalign',
    locations=['mmtlalign.engine'],
)
RUNNERS = Registry(
    'runner', parent=MMENGINE_RUNNERS, scope='mmtlalign', locations=['mmtlalign.engine']
)
STRATEGIES = Registry(
    'strategy', parent=MMENGINE_STRATEGIES, scope='mmtlalign', locations=['mmtlalign.engine']
)
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmtlalign', locations=['mmtlalign.evaluation']
)
VISBACKENDS = Registry(
    'visualization backend',
    parent=MMENGINE_VISBACKENDS,
    scope='mmtlalign',
    locations=['mmtlalign.visualization'],
)


def import_parts(package: str, path: list[str]) -> dict[str, object]:
    """Import every module of a package, so that a new part is one new file.

    Args:
        package (str): Its ``__name__``.
        path (list[str]): Its ``__path__``.

    Returns:
        dict[str, object]: The public classes and functions that the modules
        define, by name, for the package to export.
    """
    modules = [import_module(f'{package}.{info.name}') for info in iter_modules(path)]
    return {
        name: part
        for module in modules
        for name, part in vars(module).items()
        if not name.startswith('_') and getattr(part, '__module__', None) == module.__name__
    }
