"""One reading of the data that a run will use, before anything is built."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mmtlalign.config_nodes import walk
from mmtlalign.datasets import ObjectCrops
from mmtlalign.errors import UserError

from .cache import remembered
from .class_names import (
    check_heads,
    check_trained_classes,
    difference,
    numbered_parts,
    stated_classes,
    task_of,
)
from .classification import LabelledImages, build_unread, look_at_images, opens_as_labelled
from .crops import look_at_crops
from .detection import look_at_coco
from .findings import Findings
from .paths import check_evaluator, check_paths, downloads_itself, evaluators, is_here, named_paths
from .pipelines import check_pipeline
from .segmentation import look_at_label_maps

HINT = 'put or link the data there, as the README describes'


@dataclass
class Leaf:
    """A data set without wrappers: its place, config and class."""

    where: str
    dataset: ConfigDict
    cls: type | None

    @property
    def is_coco(self) -> bool:
        """Whether it is mmdet's ``CocoDataset`` or reads as that does, unlike
        LVIS or panoptic COCO."""
        for base in getattr(self.cls, '__mro__', ()):
            if base.__name__ == 'CocoDataset':
                return all(
                    getattr(self.cls, name) is getattr(base, name)
                    for name in ('load_data_list', 'parse_data_info')
                )
        return False

    @property
    def names_itself(self) -> bool:
        return hasattr(self.cls, 'read_classes')  # ours, from their files

    @property
    def is_segmented(self) -> bool:
        return hasattr(self.cls, 'get_label_map')  # mmseg's

    @cached_property
    def images(self) -> LabelledImages | None:
        """Its labelled images in files here, whose folders are listed once."""
        if opens_as_labelled(self.cls) and is_here(self.dataset):
            return LabelledImages(self.where, self.dataset)
        return None

    @cached_property
    def own_names(self) -> list[str]:
        """Classes that its files name, which are read once, whatever their size."""
        return list(build_unread(self.dataset).read_classes())

    @property
    def names(self) -> list[str] | None:
        """Classes, in the order of labels; None if not known."""
        if self.names_itself:
            return self.own_names
        names = stated_classes(self.dataset, self.cls)
        return self.images.classes if names is None and self.images else names


def check_data(
    cfg: Config,
    *phases: str,
    full: bool = False,
    trained: Sequence[str] | None = None,
    checkpoint: str = '',
) -> list[Findings]:
    """Read what a run will read, and hold it against itself and the config.

    Classes have the same names in all splits, as many as the heads tell apart, and are the
    checkpoint's; images come in the channel order of the training images, and what lies on them
    moves with them; annotations say what the host expects. Data sets that download themselves,
    those in memory and remote ones are not read.

    Args:
        cfg (Config): Full config; classes of a split that states none are set to those of the
            training data. Its optional ``data_hint`` (str) says how to get the data.
        phases (str): Any of ``train``, ``val``, ``test``.
        full (bool): Read all label maps and headers of images, not a sample. Defaults to False.
        trained (Sequence[str], optional): Classes of the checkpoint that is
            tested or resumed. Defaults to None, not known.
        checkpoint (str): Its path, for messages. Defaults to ''.

    Returns:
        list[Findings]: Of each data set that was read.

    Raises:
        UserError: Naming the file, what is wrong and what to do.
    """
    hint = cfg.get('data_hint', HINT)
    found_in = {phase: find_leaves(cfg, phase) for phase in (*phases, 'train')}
    leaves = [leaf for phase in phases for leaf in found_in[phase]]
    for phase in phases:
        found = found_in[phase]
        for leaf in found:
            check_pipeline(leaf.where, leaf.dataset, cfg)
            if not downloads_itself(leaf.dataset, leaf.cls):
                check_paths(leaf.where, leaf.dataset, hint)
            check_top_k(leaf, cfg, phase)
        if found:
            check_evaluator(
                f'{phase}_evaluator', cfg, hint, [_ann_file(leaf) for leaf in found if leaf.is_coco]
            )
    check_order([*found_in['train'], *leaves])
    findings, seen = [], []
    reference = _names_of_first(found_in['train'])
    if reference[0] is None and trained is not None:
        reference = list(trained), f"checkpoint '{checkpoint}'"
    for leaf in leaves:
        names = check_names(leaf, cfg, *reference)
        if trained is not None:
            check_trained_classes(trained, checkpoint, names, leaf.where)
        if leaf.dataset in seen or not is_first_process():
            continue
        seen.append(leaf.dataset)
        findings.append(look(leaf, cfg, names, full))
    return list(filter(None, findings))


def find_leaves(cfg: Config, phase: str) -> list[Leaf]:
    """The data sets of a phase, none if it does not take place."""
    loader = cfg.get(f'{phase}_dataloader')
    if not loader or cfg.get(f'{phase}_cfg') is None:
        return []
    return [
        Leaf(where, dataset, _dataset_class(dataset, cfg.get('default_scope')))
        for where, dataset in _unwrapped(loader.dataset, f'{phase}_dataloader.dataset')
    ]


def _unwrapped(dataset: dict, where: str) -> Iterator[tuple[str, dict]]:
    """Walk through wrappers such as RepeatDataset and ConcatDataset."""
    if 'dataset' in dataset:
        yield from _unwrapped(dataset['dataset'], f'{where}.dataset')
    elif 'datasets' in dataset:
        for i, child in enumerate(dataset['datasets']):
            yield from _unwrapped(child, f'{where}.datasets.{i}')
    else:
        yield where, dataset


def _dataset_class(dataset: dict, scope: str | None) -> type | None:
    """What the dataset's type stands for; None if there is no such type."""
    if isinstance(dataset['type'], type):
        return dataset['type']
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(dataset['type'])


def check_order(leaves: Sequence[Leaf]) -> None:
    """Raise if folders that are classes by their order alone are not the same in all splits."""
    ordered = [
        leaf
        for leaf in leaves
        if leaf.images and leaf.images.files and {*leaf.images.files}.isdisjoint(leaf.names or ())
    ]
    for leaf in ordered[1:]:
        found = difference(
            [*leaf.images.files], [*ordered[0].images.files], leaf.where, ordered[0].where
        )
        if found:
            raise UserError(
                f'by the order of the folders, {found}: labels would mean other classes; name the '
                'folders as the classes are named'
            )


def check_top_k(leaf: Leaf, cfg: Config, phase: str) -> None:
    """Raise if one of the best K classes is asked for where there are not K."""
    count = len(leaf.names or ())
    for metric in evaluators(cfg, f'{phase}_evaluator'):
        top = metric.get('topk', 1)
        top = max(top) if isinstance(top, (list, tuple)) and top else top
        if count and isinstance(top, int) and top > count:
            raise UserError(
                f'{phase}_evaluator.topk={top}, but {leaf.where} has {count} classes: set '
                f'--cfg-options {phase}_evaluator.topk=NUMBER'
            )


def training_classes(cfg: Config) -> tuple[list[str] | None, str]:
    """Names of the training data, if they are known, and their place."""
    return _names_of_first(find_leaves(cfg, 'train'))


def _names_of_first(leaves: list[Leaf]) -> tuple[list[str] | None, str]:
    for leaf in leaves[:1]:
        if downloads_itself(leaf.dataset, leaf.cls) or is_here(leaf.dataset):
            return leaf.names, leaf.where
    return None, ''


def stated_in(cfg: Config) -> tuple[list[str] | None, str]:
    """Names that a config itself states, and where; no data are looked at."""
    for phase in ('test', 'val', 'train'):
        for leaf in find_leaves(cfg, phase):
            names = stated_classes(leaf.dataset, leaf.cls)
            if names is not None:
                return names, leaf.where
    return None, ''


def check_names(
    leaf: Leaf, cfg: Config, reference: list[str] | None, whence: str
) -> list[str] | None:
    """The names of a data set, compared with the training's and the heads; a
    split in folders whose config names no classes gets those of the training."""
    names = leaf.names
    if names is not None and reference is not None and names != reference:
        if stated_classes(leaf.dataset, leaf.cls) is None and not leaf.names_itself:
            leaf.dataset.metainfo = dict(
                leaf.dataset.get('metainfo') or {}, classes=tuple(reference)
            )
            names = reference
        else:
            remedy = (
                'mend the tables or annotation files, or set classes where their order is known'
                if leaf.names_itself
                else 'set metainfo.classes to the same names in the same order'
            )
            raise UserError(
                f'{difference(names, reference, leaf.where, whence)}: labels would mean other '
                f'classes; {remedy}'
            )
    if names is not None:
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f'{leaf.where}.metainfo.classes has {twice!r} twice: name each class once'
            )
        if not leaf.is_segmented:  # whose data set may yet refuse its classes
            check_heads(cfg, names, leaf.where)
    return names


def look(leaf: Leaf, cfg: Config, names: list[str] | None, full: bool) -> Findings | None:
    """Read a data set, or recall what was read; None if it is not in files
    here or of an unknown kind."""
    where, dataset = leaf.where, leaf.dataset
    if not is_here(dataset):
        return None
    parts = list(numbered_parts(cfg))
    question = dict(where=where, dataset=dataset, names=names, full=full, parts=parts)
    if leaf.is_coco and osp.isfile(_ann_file(leaf)):
        needed = dict(zip(('evaluated', 'with_masks'), _what_for(leaf, cfg)), full=full)
        question.update(needed)
        look_at = partial(look_at_coco, where, dataset, _ann_file(leaf), names or [], **needed)
    elif leaf.is_segmented:
        look_at = partial(look_at_label_maps, where, dataset, cfg, full)
    elif opens_as_labelled(leaf.cls) and task_of(cfg) == 'mmpretrain':
        count = next((count for _, count in parts), None)
        look_at = partial(look_at_images, leaf.images.renamed(names), count, full)
    elif isinstance(leaf.cls, type) and issubclass(leaf.cls, ObjectCrops):
        look_at = partial(look_at_crops, where, dataset, full)
    else:
        return None
    return remembered(question, look_at)


def _ann_file(leaf: Leaf) -> str:
    return dict(named_paths(leaf.dataset)).get('ann_file', '')


def _what_for(leaf: Leaf, cfg: Config) -> tuple[bool, bool]:
    """Whether scores are computed, and whether masks are wanted."""
    phase = leaf.where.partition('_')[0]
    if phase != 'train':
        metrics = [metric.get('metric', 'bbox') for metric in evaluators(cfg, f'{phase}_evaluator')]
        return bool(metrics), any('segm' in metric for metric in metrics)
    steps = leaf.dataset.get('pipeline') or ()
    loads = [step for step in steps if str(step['type']).endswith('LoadAnnotations')]
    with_masks = any(step.get('with_mask') for step in loads)
    parts = {key.rpartition('.')[2] for key, part in walk(cfg.get('model')) if part}
    if loads and not with_masks and 'mask_head' in parts:
        raise UserError(
            f"{leaf.where}.pipeline loads no masks, which the model's mask_head is trained on: "
            'set with_mask=True in its LoadAnnotations, or take a model without a mask_head'
        )
    return False, with_masks


def is_first_process() -> bool:
    """Whether this is the one of several processes that reads the data."""
    return not any(
        os.environ.get(name, '0') != '0'
        for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    )
