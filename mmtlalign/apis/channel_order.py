"""Red, green, blue or the reverse: what the images of a pipeline are.

Files are read as BGR. Data sets that hold their images in memory, such as
CIFAR, hold them as RGB. A data preprocessor's ``to_rgb`` fits the images that
its model was trained on, and says nothing of any others.
"""

from copy import deepcopy

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmtlalign.datasets.transforms.load_annotated_image import LoadAnnotatedImage

# Transforms that swap channels, and the argument that makes them do so; None if they always do.
SWAPS = dict(NumpyToPIL='to_rgb', PILToNumpy='to_bgr', SwapChannels=None)
LOAD = dict(type='LoadImageFromFile')
SWAP = dict(type='mmtlalign.SwapChannels')


def reads_files(step: dict, scope: str | None = None, cls: type = LoadImageFromFile) -> bool:
    """Whether a transform, searched in a scope or the current one, loads images, as BGR.

    With ``cls``, whether it is one of these.
    """
    kind = step['type']
    if isinstance(kind, str):
        with TRANSFORMS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    return isinstance(kind, type) and issubclass(kind, cls)


def channel_order(steps: list[dict], scope: str | None = None) -> str:
    """'rgb' or 'bgr': what images are when a pipeline of transforms ends."""
    is_rgb = not any(reads_files(step, scope) for step in steps)
    for step in steps:
        kind = getattr(step['type'], '__name__', step['type']).split('.')[-1]
        if kind in SWAPS and (SWAPS[kind] is None or step.get(SWAPS[kind])):
            is_rgb = not is_rgb
    return 'rgb' if is_rgb else 'bgr'


def trained_order(cfg: Config) -> str:
    """'rgb' or 'bgr': what a model's data preprocessor was trained to get.

    A config of a model alone is taken to be trained on files.
    """
    for phase in ('train', 'test', 'val'):
        loader = cfg.get(f'{phase}_dataloader') or {}
        steps = _first_steps(loader.get('dataset') or {})
        if steps:
            return channel_order(steps, cfg.get('default_scope'))
    return 'bgr'


def _first_steps(dataset: dict) -> list[dict]:
    """The pipeline of a data set; the first one's if it wraps several."""
    inner = dataset.get('dataset') or (dataset.get('datasets') or [{}])[0]
    return [*(_first_steps(inner) if inner else ()), *(dataset.get('pipeline') or ())]


def in_order(steps: list[dict], order: str, scope: str | None = None) -> list[dict]:
    """A pipeline whose images end in an order, whatever they were; it begins with loading."""
    if channel_order(steps, scope) == order:
        return steps
    start = sum(reads_files(step, scope) for step in steps)
    return [*steps[:start], SWAP, *steps[start:]]


def for_files(cfg: Config) -> Config:
    """A config whose test pipeline reads files, for its trained model; a copy if it must differ.

    A pipeline of images in memory loads files, one of annotated images those without annotations;
    channels are those of the training.
    """
    scope = cfg.get('default_scope')
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    if 'pipeline' not in dataset:
        return cfg
    # the hosts' inferencers look for theirs by its name
    steps = [
        LOAD if reads_files(step, scope, LoadAnnotatedImage) else step
        for step in dataset['pipeline']
    ]
    if not any(reads_files(step, scope) for step in steps):
        steps = [LOAD, *steps]
    steps = in_order(steps, trained_order(cfg), scope)
    if steps == list(dataset['pipeline']):
        return cfg
    cfg = deepcopy(cfg)
    cfg.test_dataloader.dataset.pipeline = steps
    return cfg
