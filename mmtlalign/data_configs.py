"""Configs in YAML and JSON: data, which name registered parts and run nothing."""

import os

import mmengine.registry.registry as lookup
import yaml
from mmengine.config import Config
from mmengine.fileio import YamlHandler, register_handler

from .config_nodes import walk
from .errors import UserError

HOSTS = ('mmpretrain', 'mmdet', 'mmseg', 'mmcv', 'mmengine', 'mmtlalign')

# Entries whose values registries look up, or mmpretrain evaluates as a name of
# torch's, and those that name a scope.
LOOKED_UP = frozenset(
    'type constructor runner_type collate_fn worker_init_fn norm_layer dtype'.split()
)
SCOPES = ('default_scope', '_scope_')
# Of registered parts: entries that name code or where it is imported from, and
# parts that run what their arguments or files say (eval, pickle, configs of
# their own).
CODE = ('custom_imports', 'sys_path', 'teacher_config', 'trust_remote_code')
RUN_WHAT_THEY_READ = (
    'CameraMotionCompensation',
    'KnowledgeDistillationSingleStageDetector',
    'LoadBiomedicalAnnotation',
    'LoadBiomedicalData',
    'LoadBiomedicalImageFromFile',
    'LoadDepthAnnotation',
    'OpenImagesChallengeDataset',
    'OpenImagesDataset',
    'RAM',
    'RAMNormal',
    'RAMOpenset',
    'RFSearchHook',
)

# All texts of such configs: none of them is imported, wherever it arrives.
_texts: set[str] = set()
_import = lookup.get_object_from_string


def _import_but_data(name: str):
    """In place of mmengine's search for what no registry has."""
    if any(text == name or text.endswith(f'.{name}') for text in _texts):
        return None
    return _import(name)


lookup.get_object_from_string = _import_but_data


class PlainLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """YAML's own types, and tuples, which mmengine writes."""


PlainLoader.add_constructor(
    'tag:yaml.org,2002:python/tuple',
    lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
)


@register_handler(['yaml', 'yml'])
class PlainYaml(YamlHandler):
    """In place of mmengine's, which builds whatever a file names."""

    def load_from_fileobj(self, file, **kwargs):
        return super().load_from_fileobj(file, **{'Loader': PlainLoader, **kwargs})


def read_data_config(path: str) -> Config:
    """Read a config that anybody may have written.

    Raises:
        UserError: If it, or a base of it, names code.
    """
    read = Config._file2dict

    def read_data(filename, *args, **kwargs):
        if filename.endswith('.py'):  # which would be run
            raise refusal(path, f"its _base_ '{filename}' is Python")
        return read(filename, *args, **kwargs)

    Config._file2dict = staticmethod(read_data)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    finally:
        Config._file2dict = staticmethod(read)
    if named := code_named_in(cfg):
        raise refusal(path, named)
    return cfg


def code_named_in(cfg: Config) -> str | None:
    """The first entry that makes a config more than data, and why it does.

    None of one that is data, which then can be built of: no text of it is imported.
    """
    for where, value in walk(cfg.to_dict()):
        if trouble := _names_code(where.rpartition('.')[2], value):
            return f'{where}={value!r:.100} {trouble}'
        if isinstance(value, str):
            _texts.add(value)
    return None


def _names_code(key: str, value) -> str | None:
    """Why an entry is no data; None if it is."""
    if key in CODE:
        return 'names code to run'
    if not isinstance(value, str):
        return None
    scope, dot, name = value.rpartition('.')
    if key in LOOKED_UP and dot and scope not in HOSTS:
        return 'is a name in Python, not one of a registry'
    if key in LOOKED_UP and not name.replace('/', '_').isidentifier():
        return 'is no name'
    if key in LOOKED_UP and name in RUN_WHAT_THEY_READ:
        return 'runs what its arguments or files say'
    if key in SCOPES and value not in HOSTS:
        return f'is none of {", ".join(HOSTS)}'
    return None


def refusal(path: str | os.PathLike, why: str) -> UserError:
    """What to say of a config that is not only data."""
    return UserError(
        f"config '{path}' can run any code ({why}), and a config in YAML or JSON may only name "
        'registered parts; write it in Python, or pass --trust if you trust whoever made it'
    )
