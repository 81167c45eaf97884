"""What a model said of one validation image, in numbers that fit a report.

The tasks are told apart by what a data sample holds. Each has an *error* to sort
images by: the cross-entropy of a classifier, the objects that a detector missed or
invented, the share of the pixels that a segmenter got wrong.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

SIDE = 256  # of a picture, in pixels, at most
SMALL = 64  # up to which no pixel is lost to compression
MIN_SCORE, MIN_IOU = 0.3, 0.5  # of an object that counts as found


def measure(sample: BaseDataElement, classes: Sequence[str]) -> dict | None:
    """Numbers of an image: its ``name``, its ``error`` and those of its task.

    Args:
        sample (BaseDataElement): With prediction and truth.
        classes (Sequence[str]): Names of all classes.

    Returns:
        dict | None: Classification: ``label``, ``predicted``, ``score`` of the prediction.
        Detection: ``missed``, ``false`` and, not for files, ``found`` and ``truth`` as mmdet's
        ``eval_map`` takes them. Segmentation: ``kinds``, the true classes, and, not for files,
        ``areas``, (2, K), intersection and union. None without truth, or with several labels.
    """
    name = '/'.join(Path(sample.get('img_path') or '').parts[-2:])
    name = name or f'image {sample.get("sample_idx", "")}'
    for truth, prediction, task in (
        ('gt_label', 'pred_score', _classification),
        ('gt_instances', 'pred_instances', _detection),
        ('gt_sem_seg', 'pred_sem_seg', _segmentation),
    ):
        if truth in sample and prediction in sample:
            numbers = task(sample, len(classes))
            return numbers and dict(name=name, **numbers)
    return None


def draw(image: Tensor, sample: BaseDataElement, is_rgb: bool, palette: np.ndarray) -> dict:
    """What is to be seen of an image, as data URIs and numbers.

    Args:
        image (Tensor): (3, H, W), before the data preprocessor.
        sample (BaseDataElement): As :func:`measure`.
        is_rgb (bool): Whether red comes first.
        palette (np.ndarray): (K, 3), colours of the classes, RGB.

    Returns:
        dict: ``picture``; of a detector ``boxes`` and ``true_boxes``, rows of left, top, right,
        bottom (parts of the image), label and score; of a segmenter ``map`` and ``true_map``.
    """
    pixels = image.permute(1, 2, 0).float().cpu().numpy()
    if image.is_floating_point():  # normalised by the pipeline
        pixels = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-9) * 255
    drawn: dict = dict(picture=to_uri(pixels[..., ::-1] if is_rgb else pixels))
    if 'gt_instances' in sample:
        size = np.tile(sample.ori_shape[1::-1], 2)
        drawn['boxes'] = _rows(_seen(sample.pred_instances), size)
        drawn['true_boxes'] = _rows(sample.gt_instances, size)
    if 'gt_sem_seg' in sample:
        for key, labels in (('map', sample.pred_sem_seg), ('true_map', sample.gt_sem_seg)):
            colours = np.vstack([palette, np.zeros((256, 3))])[labels.data[0].cpu().numpy()]
            drawn[key] = to_uri(colours[..., ::-1], cv2.INTER_NEAREST)
    return drawn


def to_uri(pixels: np.ndarray, interpolation: int = cv2.INTER_AREA) -> str:
    """An image (H, W, 3), BGR, 0 to 255, at most SIDE wide and high, as a URI."""
    scale = SIDE / max(pixels.shape[:2])
    pixels = pixels.clip(0, 255).astype(np.uint8)
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=interpolation)
    exact = interpolation == cv2.INTER_NEAREST or max(pixels.shape) <= SMALL
    _, data = cv2.imencode('.png' if exact else '.jpg', pixels)
    kind = 'png' if exact else 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def per_class(entries: Sequence[dict], num_classes: int) -> tuple[str, list[float | None]]:
    """'AP50' of a detector or 'IoU' of a segmenter, and the K figures of :func:`measure` of all
    images, in per cent, None of a class that is not there; '' and none of a classifier."""
    if entries and 'found' in entries[0]:
        from mmdet.evaluation.functional.mean_ap import get_cls_results

        found = [entry['found'] for entry in entries]
        truth = [entry['truth'] for entry in entries]
        return 'AP50', [
            average_precision_of(*get_cls_results(found, truth, i)) for i in range(num_classes)
        ]
    if entries and 'areas' in entries[0]:
        intersect, union = np.sum([entry['areas'] for entry in entries], 0)
        return 'IoU', [100 * float(i / u) if u else None for i, u in zip(intersect, union)]
    return '', []


def average_precision_of(found: list, truth: list, ignored: list) -> float | None:
    """AP50 of a class in per cent; None if it is not there.

    As mmdet's ``eval_map``, whose worker processes, forked from one that talks to others, can wait
    forever. Of each image: found boxes and scores (n, 5), true boxes (m, 4), and those that are
    neither right nor wrong to find.
    """
    from mmdet.evaluation.functional.mean_ap import average_precision, tpfp_default

    count = sum(map(len, truth))
    if not count:
        return None
    # most classes are in few images
    images = [part for part in zip(found, truth, ignored) if len(part[0]) or len(part[1])]
    right, wrong = zip(*(tpfp_default(*image, iou_thr=MIN_IOU) for image in images))
    order = np.argsort(-np.vstack([boxes for boxes, *_ in images])[:, -1])
    right = np.hstack(right)[0, order].cumsum()
    wrong = np.hstack(wrong)[0, order].cumsum()
    precision = right / np.maximum(right + wrong, np.finfo(np.float32).eps)
    return 100 * float(np.squeeze(average_precision(right / count, precision)))


def _classification(sample: BaseDataElement, num_classes: int) -> dict | None:
    if sample.gt_label.numel() != 1:
        return None
    label, scores = int(sample.gt_label), sample.pred_score.float().cpu()
    predicted = int(scores.argmax())
    error = -scores[label].clamp(min=1e-12).log()
    score, error = (round(float(value), 4) for value in (scores[predicted], error))
    return dict(label=label, predicted=predicted, score=score, error=error)


def _detection(sample: BaseDataElement, num_classes: int) -> dict | None:
    from mmdet.structures.bbox import bbox_overlaps

    if 'bboxes' not in sample.gt_instances:  # the pipeline loads none
        return None
    found, truth = sample.pred_instances.cpu(), sample.gt_instances.cpu()
    seen = _seen(found)
    seen = seen[seen.scores.argsort(descending=True)]
    # each true box is found once, by the surest box of its class
    fits = bbox_overlaps(_tensor(seen.bboxes), _tensor(truth.bboxes)) >= MIN_IOU
    fits &= seen.labels[:, None] == truth.labels[None]
    right = 0
    for row in fits:
        if row.any():
            right += 1
            fits[:, row.int().argmax()] = False
    missed, false = len(truth) - right, len(seen) - right
    boxes = torch.cat([_tensor(found.bboxes), found.scores[:, None]], 1).numpy()
    return dict(
        missed=missed,
        false=false,
        error=missed + false,
        found=[boxes[(found.labels == k).numpy()] for k in range(num_classes)],
        truth=dict(bboxes=_tensor(truth.bboxes).numpy(), labels=truth.labels.numpy()),
    )


def _segmentation(sample: BaseDataElement, num_classes: int) -> dict:
    from mmseg.evaluation import IoUMetric

    areas = IoUMetric.intersect_and_union(
        sample.pred_sem_seg.data[0].cpu(), sample.gt_sem_seg.data[0].cpu(), num_classes, 255
    )
    intersect, union, _, truth = (area.double().numpy() for area in areas)
    wrong = 1 - intersect.sum() / max(truth.sum(), 1)
    return dict(
        error=round(float(wrong), 4),
        kinds=np.flatnonzero(truth).tolist(),
        areas=np.stack([intersect, union]),
    )


def _seen(found: BaseDataElement) -> BaseDataElement:
    return found[found.scores >= MIN_SCORE]


def _tensor(boxes) -> Tensor:
    return getattr(boxes, 'tensor', boxes).float()  # mmdet has boxes of its own


def _rows(instances: BaseDataElement, size: np.ndarray) -> list[list[float]]:
    boxes = (_tensor(instances.bboxes).cpu().numpy() / size).round(4).tolist()
    scores = instances.get('scores', torch.ones(len(boxes))).tolist()
    return [
        [*box, label, round(score, 3)]
        for box, label, score in zip(boxes, instances.labels.tolist(), scores)
    ]
