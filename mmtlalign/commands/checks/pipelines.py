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

# Of the hosts, and torchvision's that they offer: what shows pixels elsewhere.
MOVES = frozenset(
    """Albu Albumentations AugMix AutoAugment CenterCrop EfficientNetCenterCrop
    EfficientNetRandomCrop ElasticTransform FiveCrop MAERandomResizedCrop MultiScaleFlipAug
    MultiView Pad RandAugment RandomAffine RandomChoiceResize RandomCrop RandomFlip
    RandomHorizontalFlip RandomPerspective RandomResize RandomResizedCrop
    RandomResizedCropAndInterpolationWithTwoPic RandomRotation RandomTranslatePad
    RandomVerticalFlip Resize ResizeEdge Rotate Shear TenCrop TestTimeAug Translate Transpose
    TrivialAugmentWide""".split()
)
HOSTS = ('mmcv.', 'mmdet.', 'mmengine.', 'mmpretrain.', 'mmseg.', 'mmtlalign.')
HIDES = frozenset(('Cutout', 'RandomErasing'))  # objects, which a mask goes on to show


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
    if all(cls.__module__.startswith(HOSTS) for cls in transforms) and not any(
        'Annotation' in cls.__name__ for cls in transforms
    ):
        options = ' (with_bbox=True, and with_mask=True for masks)' if task == 'mmdet' else ''
        raise UserError(
            f'{where} loads no annotations, which this phase needs: put '
            f"dict(type='LoadAnnotations') after what loads the image{options}"
        )


def check_moves(where: str, steps: list[dict], cfg: Config) -> None:
    """Raise if masks or token labels that a pipeline hands on are not moved with their images."""
    carried = {key for step in steps for key in step.get('algorithm_keys') or ()}
    carried &= {*carrying.KEYS}
    if not carried:
        return
    moves = MOVES | (HIDES if 'object_mask' in carried else frozenset())
    what, moved = ' and '.join(sorted(carried)), None
    for place, cls in _transforms(steps, cfg.get('default_scope')):
        names = [base.__name__ for base in cls.__mro__ if base.__name__ in moves]
        carries = any(base.__module__ == carrying.__name__ for base in cls.__mro__)
        if names and not carries:
            raise UserError(
                f"{where}.{place} is the host's {cls.__name__}, which moves or hides parts of the "
                f'image and leaves its {what} as they are: {_remedy(names)}'
            )
        if issubclass(cls, (LoadObjectMask, LoadTokenLabels)) and moved:
            raise UserError(
                f'{where}.{place} ({cls.__name__}) comes after {moved}, which has moved the '
                'image: put it right after what loads the image'
            )
        moved = cls.__name__ if names else moved


def _transforms(steps: list[dict], scope: str | None) -> Iterator[tuple[str, type]]:
    """Place and class of every transform of a pipeline, and of those within others."""
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        for place, node in walk(steps):
            kind = node.get('type') if isinstance(node, dict) else None
            cls = registry.get(kind) if isinstance(kind, str) else kind
            if isinstance(cls, partial):  # the host's wrapper of torchvision's
                cls = cls.keywords.get('transform')
            if isinstance(cls, type):
                yield place, cls


def _remedy(names: list[str]) -> str:
    ours = [name for name in names if hasattr(carrying, name)]
    if ours:
        return f'use mmtlalign.{ours[0]}'
    return 'take it out; docs/faithfulness.md lists those that carry them along'
