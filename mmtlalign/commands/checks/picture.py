"""A picture of what the training will see."""

import os.path as osp

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmtlalign.output_files import written_beside

from .class_names import task_of

NUM_SAMPLES, ROWS = 16, 4
COLOURS = colormaps['tab20'](range(20))[:, :3]


def draw_samples(cfg: Config, path: str) -> None:
    """Draw sixteen training samples as they leave the pipeline.

    Images are shown in the colours that the model takes them to have, so that
    exchanged channels show; over them their classes, boxes and masks.
    """
    scope = task_of(cfg)
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    names = list(dataset.metainfo.get('classes') or ())
    figure = Figure(figsize=(16, 16), layout='constrained')
    axes = figure.subplots(ROWS, NUM_SAMPLES // ROWS)
    for ax in axes.flat:
        ax.set_axis_off()
    # fewer images than places come again, augmented anew
    places = np.linspace(0, len(dataset) - 1, NUM_SAMPLES).astype(int)
    for ax, i in zip(axes.flat, places):
        packed = dataset[int(i)]
        sample = packed['data_samples']
        image = _seen(packed['inputs'], cfg)
        ax.imshow(image, interpolation='nearest')
        title = osp.basename(str(sample.get('img_path') or f'sample {i}'))
        if 'gt_label' in sample:
            labels = sample.gt_label.tolist()
            title += '\n' + ', '.join(_name(names, label) for label in labels)
        if 'gt_instances' in sample:
            _draw_instances(ax, sample.gt_instances, names)
        if 'gt_sem_seg' in sample:
            _draw_classes(ax, sample.gt_sem_seg.data[0].numpy(), names)
        if 'object_mask' in sample:
            _outline(ax, sample.object_mask.pixels > 127)
        ax.set_title(title, fontsize=9)
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=80)


def _seen(inputs, cfg: Config) -> np.ndarray:
    """(H, W, 3) in [0, 255]: red where the model takes it for red."""
    image = inputs.movedim(0, -1).float().numpy()
    if inputs.dtype.is_floating_point:  # normalised by the pipeline
        image = (image - image.min()) / max(np.ptp(image), 1e-6) * 255
    preprocess = {
        **(cfg.model.get('data_preprocessor') or {}),
        **(cfg.get('data_preprocessor') or {}),
    }
    swaps = any(preprocess.get(key) for key in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'))
    if image.shape[-1] == 3 and swaps:
        image = image[..., ::-1]
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)


def _name(names: list, label: int) -> str:
    return str(names[label]) if label < len(names) else f'class {label}'


def _draw_instances(ax: Axes, instances, names: list) -> None:
    boxes = instances.bboxes
    boxes = getattr(boxes, 'tensor', boxes).numpy()
    masks = instances.masks.to_ndarray() if 'masks' in instances else None
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        label = int(instances.labels[i])
        colour = COLOURS[label % len(COLOURS)]
        box = dict(fill=False, edgecolor=colour, linewidth=1.5)
        ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **box))
        _write(ax, x1, y1, _name(names, label), colour)
        if masks is not None:
            _overlay(ax, masks[i] > 0, colour)


def _draw_classes(ax: Axes, labels: np.ndarray, names: list) -> None:
    for label in np.unique(labels):
        if label >= len(names):
            continue  # to ignore
        colour = COLOURS[label % len(COLOURS)]
        pixels = labels == label
        _overlay(ax, pixels, colour)
        rows, columns = np.nonzero(pixels)
        middle = len(rows) // 2  # a pixel of the class, unlike the mean
        _write(ax, columns[middle], rows[middle], _name(names, label), colour)


def _overlay(ax: Axes, pixels: np.ndarray, colour: tuple) -> None:
    layer = np.zeros((*pixels.shape, 4))
    layer[pixels] = (*colour, 0.3)
    ax.imshow(layer, interpolation='nearest')


def _outline(ax: Axes, pixels: np.ndarray) -> None:
    if pixels.any() and not pixels.all() and min(pixels.shape) > 1:
        ax.contour(pixels, [0.5], colors=[COLOURS[2]], linewidths=1.5)


def _write(ax: Axes, x: float, y: float, words: str, colour: tuple) -> None:
    ink = 'black' if sum(colour) > 1.5 else 'white'
    paper = dict(facecolor=colour, edgecolor='none', pad=1)
    ax.text(x, y, words, fontsize=8, clip_on=True, va='top', color=ink, bbox=paper)
