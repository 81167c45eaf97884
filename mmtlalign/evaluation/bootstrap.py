"""What a test's figure would be on other images: the bootstrap.

Efron, Bootstrap Methods: Another Look at the Jackknife (The Annals of Statistics 7(1), 1979): as
many images as there are, drawn with replacement, many times over. It tells what the choice of the
test images does to a figure, and nothing about other trainings.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from mmtlalign.errors import UserError


class CollectingMetric(BaseMetric):
    """Stands in for a metric in an evaluator, and keeps what that gathers.

    Args:
        metric (BaseMetric): Whose figures it gives.
    """

    def __init__(self, metric: BaseMetric) -> None:
        super().__init__(metric.collect_device, metric.prefix, metric.collect_dir)
        self.metric = metric
        self.results = metric.results
        #: What the metric gathered of every image of the last test.
        self.collected: list = []

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self.metric.dataset_meta = dataset_meta

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        self.metric.process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict:
        self.collected = results
        return self.metric.compute_metrics(results)


def figure_of(metric: BaseMetric) -> str:
    """Name of the figure that ``redraw`` gives of a metric, after the metric's prefix.

    Raises:
        UserError: For others than mmpretrain's ``Accuracy`` ('top1'), mmseg's ``IoUMetric``
            ('mIoU') and mmdet's ``CocoMetric`` ('bbox_mAP').
    """
    name, _ = _find(metric)
    return f'{metric.prefix}/{name}' if metric.prefix else name


def redraw(metric: BaseMetric, results: list, num_draws: int = 1000, seed: int = 0) -> np.ndarray:
    """A figure of images drawn anew, in the unit of the metric, (num_draws,).

    Args:
        metric (BaseMetric): That has been evaluated.
        results (list): What it gathered of each image; see :class:`CollectingMetric`.
        num_draws (int): Defaults to 1000.
        seed (int): Models tested on the same images get the same draws from the same seed, so that
            their figures can be subtracted. Defaults to 0.

    Raises:
        UserError: As ``figure_of``.
    """
    _, figures = _find(metric)
    draws = np.random.default_rng(seed).integers(len(results), size=(num_draws, len(results)))
    return np.fromiter(figures(metric, results, draws), float)


def paired_difference(
    first: Sequence[float], other: Sequence[float], num_draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of other less first, on the same images, and between what 95 % of its draws lie.

    Args:
        first, other (Sequence[float]): An error of each image, in one order.
        num_draws (int): Defaults to 1000.
        seed (int): Defaults to 0.
    """
    gaps = np.subtract(other, first, dtype=float)
    rng = np.random.default_rng(seed)
    draws = [rng.choice(gaps, len(gaps)).mean() for _ in range(num_draws)]
    return gaps.mean(), *np.percentile(draws, [2.5, 97.5])


def _find(metric: BaseMetric) -> tuple:
    # By name: not every host need be installed.
    for kind in type(metric).__mro__:
        if kind.__name__ in FIGURES:
            return FIGURES[kind.__name__]
    raise UserError(
        f'the bootstrap knows the metrics {", ".join(FIGURES)}, not {type(metric).__name__}; '
        'put one of them first in test_evaluator'
    )


def _top1(metric, results: list, draws: np.ndarray) -> Iterator[float]:
    labels = torch.cat([result['gt_label'] for result in results])
    if 'pred_score' in results[0]:
        predicted = torch.stack([result['pred_score'] for result in results]).argmax(1)
    else:
        predicted = torch.cat([result['pred_label'] for result in results])
    right = (predicted == labels).double().numpy()
    return (100 * right[draw].mean() for draw in draws)


def _mean_iou(metric, results: list, draws: np.ndarray) -> Iterator[float]:
    # Pixels of every image and class, (images, classes).
    intersect, union = (torch.stack(areas).double().numpy() for areas in list(zip(*results))[:2])
    for draw in draws:
        with np.errstate(invalid='ignore'):  # a class that no image shows
            iou = intersect[draw].sum(0) / union[draw].sum(0)
        yield 100 * np.nanmean(iou)


def _box_ap(metric, results: list, draws: np.ndarray) -> Iterator[float]:
    from mmdet.datasets.api_wrappers import COCOeval

    predictions = [prediction for _, prediction in results]
    if not any(len(prediction['scores']) for prediction in predictions):
        yield from (0.0 for _ in draws)  # which COCO's tools refuse
        return
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        files = metric.results2json(predictions, f'{folder}/results')
        found = metric._coco_api.loadRes(files['bbox'])
        evaluation = COCOeval(metric._coco_api, found, 'bbox')
        params = evaluation.params
        params.catIds, params.imgIds = metric.cat_ids, metric.img_ids
        params.iouThrs, params.maxDets = metric.iou_thrs, [100]
        # boxes of all sizes only
        params.areaRng, params.areaRngLbl = params.areaRng[:1], ['all']
        evaluation.evaluate()
    matches = np.array(evaluation.evalImgs, dtype=object)
    matches = matches.reshape(len(params.catIds), len(params.imgIds))
    for draw in draws:
        evaluation.evalImgs = list(matches[:, draw].ravel())
        with redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision = evaluation.eval['precision']
        yield precision[precision > -1].mean()


FIGURES = dict(
    Accuracy=('top1', _top1), IoUMetric=('mIoU', _mean_iou), CocoMetric=('bbox_mAP', _box_ap)
)
