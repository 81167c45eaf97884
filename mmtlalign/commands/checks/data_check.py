"""Look for the data a run will read before anything is built."""
import inspect
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmtlalign.apis.channel_order import channel_order, trained_order
from mmtlalign.errors import UserError

from .coco_check import check_coco, check_num_classes, expected_classes
from .segmentation_check import check_label_maps
from .tables import check_tables

HINT = 'put or link the data there, as the README describes'


def check_data(cfg: Config, *phases: str) -> None:
    """Raise if a folder or annotation file of a dataset does not exist.

    Annotation files in COCO format are read: they must hold annotations and
    exactly the classes of the config, and heads as many. Label maps must be
    there and fit the heads. Tables of images must have the same classes, as
    many as the head. Images must come in the channel order of the
    training images. Datasets that download themselves and remote paths are
    not checked.

    Args:
        cfg (Config): Full config. Its optional ``data_hint`` (str) says how
            to get the data.
        phases (str): Any of ``train``, ``val``, ``test``.

    Raises:
        UserError: Naming the path and how to get it or point elsewhere, or
            what an annotation file holds and what the config expects.
    """
    hint = cfg.get('data_hint', HINT)
    tables = {}
    for phase in phases:
        loader = cfg.get(f'{phase}_dataloader')
        if not loader or cfg.get(f'{phase}_cfg') is None:
            continue
        place = f'{phase}_dataloader.dataset'
        for where, dataset in _leaf_datasets(loader.dataset, place):
            cls = _dataset_class(dataset, cfg.get('default_scope'))
            _check_channels(where, dataset, cfg)
            if not _downloads_itself(dataset, cls):
                _check_paths(where, dataset, hint)
            if cls is not None and hasattr(cls, 'COCOAPI'):
                _check_coco(where, dataset, cls, cfg.get('model', {}))
            if hasattr(cls, 'get_label_map'):  # mmseg's
                check_label_maps(where, dataset, cfg.get('model', {}))
            if hasattr(cls, 'read_classes'):  # our own
                tables[where] = dataset
        _check_evaluator(f'{phase}_evaluator', cfg, hint)
    check_tables(tables, cfg.get('model', {}))


def _leaf_datasets(dataset: dict, where: str) -> Iterator[tuple[str, dict]]:
    """Walk through wrappers such as RepeatDataset and ConcatDataset."""
    if 'dataset' in dataset:
        yield from _leaf_datasets(dataset['dataset'], f'{where}.dataset')
    elif 'datasets' in dataset:
        for i, child in enumerate(dataset['datasets']):
            yield from _leaf_datasets(child, f'{where}.datasets.{i}')
    else:
        yield where, dataset


def _check_channels(where: str, dataset: dict, cfg: Config) -> None:
    """Compare the channel order of a dataset with that of the training."""
    steps = dataset.get('pipeline')
    if not steps:
        return  # of a wrapper, perhaps
    order, trained = (channel_order(steps, cfg.get('default_scope')),
                      trained_order(cfg))
    if order != trained:
        raise UserError(
            f'{where}.pipeline gives images as {order.upper()}, and '
            f'train_dataloader as {trained.upper()} (files are read as BGR, '
            'data sets in memory such as CIFAR hold RGB), and one '
            "data_preprocessor cannot fit both: put dict(type='mmtlalign."
            "SwapChannels') into the pipeline, after what loads the image")


def _dataset_class(dataset: dict, scope: str | None) -> type | None:
    """What the dataset's type stands for; None if there is no such type."""
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(dataset['type'])


def _downloads_itself(dataset: dict, cls: type | None) -> bool:
    """Whether the dataset fetches what is missing (CIFAR, MNIST)."""
    if cls is None:
        return False  # the registry's own message is the better one
    download = inspect.signature(cls).parameters.get('download')
    default = download is not None and download.default is True
    return bool(dataset.get('download', default))


def _check_paths(where: str, dataset: dict, hint: str) -> None:
    """Check one dataset's root, annotation file and prefixes, in order."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    prefixes = prefix if isinstance(prefix, dict) else {'': prefix}
    parts = [('data_root', ''), ('ann_file', dataset.get('ann_file') or '')]
    parts += [(f'data_prefix.{key}'.rstrip('.'), value)
              for key, value in prefixes.items()]
    for key, part in parts:
        path = osp.join(root, part) if part else root
        if path and ':' not in path and not osp.exists(path):
            kind = 'file' if key == 'ann_file' else 'folder'
            raise UserError(
                f"dataset {kind} '{path}' ({where}.{key}) does not exist: "
                f'{hint}, or set another place with --cfg-options '
                f'{where}.{key}=PATH')


def _check_coco(where: str, dataset: dict, cls: type, model: dict) -> None:
    """Read one dataset's annotation file; hold it against the config."""
    path = osp.join(dataset.get('data_root') or '',
                    dataset.get('ann_file') or '')
    classes = expected_classes(dataset, cls)
    if ':' not in path and osp.isfile(path):
        # Files without annotations are for testing on a server.
        check_coco(path, where, classes, annotated=where[:4] != 'test')
    check_num_classes(model, classes, where)


def _check_evaluator(where: str, cfg: Config, hint: str) -> None:
    """Look for the annotation files that metrics read by themselves."""
    evaluators = cfg.get(where) or []
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    for evaluator in evaluators:
        path = evaluator.get('ann_file') or ''
        if path and ':' not in path and not osp.exists(path):
            raise UserError(
                f"annotation file '{path}' ({where}.ann_file) does not exist: "
                f'{hint}, or set another with --cfg-options '
                f'{where}.ann_file=PATH')
