"""Registries of mmtlalign (scope ``mmtlalign``).

Children of the hosts' registries. ``locations`` lets mmpretrain, mmdet and
mmseg configs find ``mmtlalign.X`` without ``custom_imports``.
"""

from importlib import import_module
from pkgutil import iter_modules

from mmengine import registry as host
from mmengine.registry import Registry
from mmpretrain.registry import BATCH_AUGMENTS as MMPRETRAIN_BATCH_AUGMENTS


def _child(parent: Registry, location: str) -> Registry:
    """A registry of ours in a host's, of what a part of the package has."""
    locations = [f'mmtlalign.{location}']
    return Registry(parent.name, parent=parent, scope='mmtlalign', locations=locations)


MODELS = _child(host.MODELS, 'models')
# The host's node has no parent of its own, so it must be named here for its
# registry to find ours.
BATCH_AUGMENTS = _child(MMPRETRAIN_BATCH_AUGMENTS, 'models')
DATASETS = _child(host.DATASETS, 'datasets')
TRANSFORMS = _child(host.TRANSFORMS, 'datasets')
HOOKS = _child(host.HOOKS, 'engine')
OPTIM_WRAPPERS = _child(host.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(host.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
RUNNERS = _child(host.RUNNERS, 'engine')
STRATEGIES = _child(host.STRATEGIES, 'engine')
METRICS = _child(host.METRICS, 'evaluation')
VISBACKENDS = _child(host.VISBACKENDS, 'visualization')


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
