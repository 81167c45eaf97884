"""What the transforms of a data set do to its images, and to what lies on them."""

from collections.abc import Iterator
from functools import partial

from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmtlalign.apis.channel_order import channel_order, trained_order
from mmtlalign.config_nodes import walk
from mmtlalign.datasets.transforms import carrying
from mmtlalign.datasets.transforms.load_object_mask import LoadObjectMask
from mmtlalign.datasets.transforms.token_labels import LoadTokenLabels
from mmtlalign.errors import UserError

from .class_names import task_of
from .paths import evaluators

HOSTS = ('mmcv.', 'mmdet.', 'mmengine.', 'mmpretrain.', 'mmseg.', 'torchvision.')
# Of these, what shows every pixel where it was, and what holds other transforms. All others move
# the image, or may: what is new in a release is looked at once.
IN_PLACE = frozenset(
    """AdjustGamma ApplyToList AutoContrast BEiTMaskGenerator Brightness CLAHE CleanCaption Collect
    Color ColorJitter ColorTransform Compose Contrast ConvertImageDtype
    DenormalizeKeypointLocation Equalize GaussianBlur Grayscale ImageToTensor Invert KeyMapper
    Lambda Lighting LinearTransformation Normalize NormalizeKeypointLocation NumpyToPIL PILToNumpy
    PILToTensor PhotoMetricDistortion Posterize RGB2Gray RandomAdjustSharpness RandomApply
    RandomAutocontrast RandomChoice RandomEqualize RandomGrayscale RandomInvert RandomOrder
    RandomPosterize RandomSolarize Sharpness SimMIMMaskGenerator Solarize SolarizeAdd ToNumpy ToPIL
    ToPILImage ToTensor TransformBroadcaster YOLOXHSVRandomAug""".split()
)
CARRIERS = 'docs/faithfulness.md lists what carries them along'
HIDES = ('CutOut', 'Cutout', 'RandomCutOut', 'RandomErasing')  # objects; labels stay


def check_pipeline(where: str, dataset: dict, cfg: Config) -> None:
    """Check the transforms of a data set, none where a wrapper has them.

    Args:
        where (str): The data set's place in the config.
        dataset (dict): Its config.
        cfg (Config): Full config.

    Raises:
        UserError: Other channels than the training's; annotations that nothing loads; masks or
            token labels left behind.
    """
    if steps := dataset.get('pipeline'):
        check_annotations(f'{where}.pipeline', steps, cfg)
        check_channels(f'{where}.pipeline', steps, cfg)
        check_moves(f'{where}.pipeline', steps, cfg)


def check_channels(where: str, steps: list[dict], cfg: Config) -> None:
    """Compare the channel order of a pipeline with that of the training."""
    order, trained = (channel_order(steps, cfg.get('default_scope')), trained_order(cfg))
    if order != trained:
        raise UserError(
            f'{where} gives images as {order.upper()}, and train_dataloader as '
            f'{trained.upper()} (files are read as BGR, data sets in memory such as CIFAR hold '
            'RGB), and one data_preprocessor cannot fit both: put '
            "dict(type='mmtlalign.SwapChannels') into the pipeline, after what loads the image"
        )


def check_annotations(where: str, steps: list[dict], cfg: Config) -> None:
    """Raise if the boxes or label maps that are trained or scored on are never loaded.

    Transforms that are not the hosts' may load what they like.
    """
    phase, task = where.partition('_')[0], task_of(cfg)
    scored = any(not metric.get('format_only') for metric in evaluators(cfg, f'{phase}_evaluator'))
    needed = phase == 'train' or task == 'mmseg' and scored  # mmdet's metrics read the file
    if task not in ('mmdet', 'mmseg') or not needed:
        return
    transforms = [cls for _, cls in _transforms(steps, task)]
    known = all(cls.__module__.startswith((*HOSTS, 'mmtlalign.')) for cls in transforms)
    if known and not any('Annotation' in cls.__name__ for cls in transforms):
        options = ' (with_bbox=True, and with_mask=True for masks)' if task == 'mmdet' else ''
        raise UserError(
            f'{where} loads no annotations, which this phase needs: put '
            f"dict(type='LoadAnnotations') after what loads the image{options}"
        )


def check_moves(where: str, steps: list[dict], cfg: Config) -> None:
    """Raise if masks or token labels that a pipeline hands on are not moved with their images."""
    carried = {
        key
        for _, node in walk(steps)
        if isinstance(node, dict)
        for option in ('algorithm_keys', 'meta_keys')
        for key in node.get(option) or ()
        if key in carrying.KEYS
    }
    if not carried:
        return
    what, moved = ' and '.join(sorted(carried)), None
    for place, cls in _transforms(steps, cfg.get('default_scope')):
        name = cls.__name__
        if _moves(cls) and not (name in HIDES and 'object_mask' not in carried):
            ours = hasattr(carrying, name)
            remedy = f'use mmtlalign.{name}' if ours else f'take it out; {CARRIERS}'
            raise UserError(
                f"{where}.{place} is a host's {name}, which may move or hide parts of the image "
                f'and leaves its {what} as they are: {remedy}'
            )
        if issubclass(cls, (LoadObjectMask, LoadTokenLabels)) and moved:
            raise UserError(
                f'{where}.{place} ({name}) comes after {moved}, which has moved the image: put it '
                'right after what loads the image'
            )
        moved = name if _carries(cls) else moved


def _moves(cls: type) -> bool:
    """Whether it is a host's and not known to leave pixels where they are."""
    name = cls.__name__
    return cls.__module__.startswith(HOSTS) and not (
        name in IN_PLACE or name.startswith(('Load', 'Pack'))
    )


def _carries(cls: type) -> bool:
    return any(base.__module__ == carrying.__name__ for base in cls.__mro__)


def _transforms(steps, scope: str | None) -> Iterator[tuple[str, type]]:
    """Place and class of every transform of a pipeline, and of those within others; but for what
    a transform of ours builds, which knows what it does."""
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        own: tuple[str, ...] = ()
        for place, node in walk(steps):
            if not isinstance(node, dict):
                continue
            kind = node.get('type')
            cls = registry.get(kind) if isinstance(kind, str) else kind
            if isinstance(cls, partial):  # the host's wrapper of torchvision's
                cls = cls.keywords.get('transform')
            if not isinstance(cls, type) or place.startswith(own) and _built_by_ours(cls):
                continue
            if _carries(cls):
                own = (*own, f'{place}.')
            if not _resizes_by_ours(node, registry):
                yield place, cls


def _built_by_ours(cls: type) -> bool:
    """In the place of the host's by ``RandAugment``, or padding of ``CenterCrop``."""
    return cls.__name__ in (*carrying.RandAugment.GEOMETRIC, 'Pad')


def _resizes_by_ours(node: dict, registry) -> bool:
    """Whether the host's random sizes are left to our transform."""
    kind = node.get('resize_type')
    cls = registry.get(kind) if isinstance(kind, str) else kind
    return isinstance(cls, type) and _carries(cls)
