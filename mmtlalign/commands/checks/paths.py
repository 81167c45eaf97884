"""Whether the files and folders that a config names are there."""

import inspect
import os.path as osp

from mmengine.config import Config

from mmtlalign.errors import UserError


def downloads_itself(dataset: dict, cls: type | None) -> bool:
    """Whether the dataset fetches what is missing (CIFAR, MNIST)."""
    if cls is None:
        return False  # the registry's own message is the better one
    download = inspect.signature(cls).parameters.get('download')
    default = download is not None and download.default is True
    return bool(dataset.get('download', default))


def check_paths(where: str, dataset: dict, hint: str) -> None:
    """Check one dataset's root, annotation file and prefixes, in order."""
    for key, path in named_paths(dataset):
        kind = 'file' if key == 'ann_file' else 'folder'
        check_is_there(f'dataset {kind}', path, where, key, hint)


def check_is_there(what: str, path: str, where: str, key: str, hint: str) -> None:
    """Raise a UserError if a local path is given, and leads nowhere."""
    if path and ':' not in path and not osp.exists(path):
        raise UserError(
            f"{what} '{path}' ({where}.{key}) does not exist: {hint}, or set another place with "
            f'--cfg-options {where}.{key}=PATH'
        )


def named_paths(dataset: dict) -> list[tuple[str, str]]:
    """Keys and paths of a data set's config."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    prefixes = prefix if isinstance(prefix, dict) else {'': prefix}
    parts = [('data_root', ''), ('ann_file', dataset.get('ann_file') or '')]
    parts += [(f'data_prefix.{key}'.rstrip('.'), value) for key, value in prefixes.items()]
    return [(key, osp.join(root, part) if part else root) for key, part in parts]


def is_here(dataset: dict) -> bool:
    """Whether all paths of a data set are of files here, and exist."""
    return all(':' not in path and osp.exists(path) for _, path in named_paths(dataset) if path)


def has_image_files(dataset: dict) -> bool:
    """Whether images are files by their paths, and not in a storage, such as
    an LMDB, that the loading step names."""
    return not any(step.get('backend_args') for step in dataset.get('pipeline') or ())


def check_evaluator(where: str, cfg: Config, hint: str, read: list[str]) -> None:
    """Look at the annotation files that metrics read by themselves; if the data
    sets read a single one, it must be theirs, too."""
    for evaluator in evaluators(cfg, where):
        path = evaluator.get('ann_file') or ''
        check_is_there('annotation file', path, where, 'ann_file', hint)
        if not path or ':' in path:
            continue
        if len(read) == 1 and osp.realpath(path) != osp.realpath(read[0]):
            raise UserError(
                f"{where}.ann_file is '{path}', but the images are those of "
                f"'{read[0]}': predictions would be held against other "
                f'objects; set --cfg-options {where}.ann_file={read[0]}'
            )


def evaluators(cfg: Config, where: str) -> list[dict]:
    """The metrics of a phase."""
    found = cfg.get(where) or []
    return [found] if isinstance(found, dict) else list(found)
