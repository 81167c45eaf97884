"""Figures of images drawn anew, against the hosts' own metrics."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import Accuracy

from mmtlalign.errors import UserError
from mmtlalign.evaluation.bootstrap import CollectingMetric, figure_of, redraw

from ..conftest import needs_operators

NUM_IMAGES = 12
DRAWS = np.random.default_rng(0).integers(NUM_IMAGES, size=(20, NUM_IMAGES))


def classified():
    torch.manual_seed(0)
    return Accuracy(), [
        dict(gt_label=torch.randint(3, (1,)), pred_score=torch.rand(3)) for _ in range(NUM_IMAGES)
    ]


def test_top1_is_that_of_the_host_on_the_same_images():
    metric, results = classified()
    figures = redraw(metric, results, num_draws=20)
    expected = [metric.compute_metrics([results[i] for i in draw])['top1'] for draw in DRAWS]
    assert figures == pytest.approx(expected, abs=1e-4)
    assert len(set(figures)) > 3
    assert figure_of(metric) == 'accuracy/top1'
    assert not np.array_equal(redraw(metric, results, num_draws=20, seed=1), figures)
    for result in results:  # labels without scores
        result['pred_label'] = result.pop('pred_score').argmax(0, keepdim=True)
    assert np.array_equal(redraw(metric, results, num_draws=20), figures)


def test_results_are_kept_and_the_figure_stays():
    metric, results = classified()
    collecting = CollectingMetric(metric)
    collecting.dataset_meta = dict(classes=('a', 'b', 'c'))
    assert metric.dataset_meta == dict(classes=('a', 'b', 'c'))
    top1 = Accuracy().compute_metrics(results)['top1']
    for _ in range(2):  # tests
        for part in results[:5], results[5:]:
            collecting.process(None, part)
        assert collecting.evaluate(NUM_IMAGES) == {'accuracy/top1': top1}
        kept, given = (
            torch.stack([r['pred_score'] for r in part]) for part in (collecting.collected, results)
        )
        assert torch.equal(kept, given)


def test_mean_iou_is_that_of_the_host_on_the_same_images():
    metrics = pytest.importorskip('mmseg.evaluation')
    metric = metrics.IoUMetric()
    metric.dataset_meta = dict(classes=list('abcd'))
    generator = torch.Generator().manual_seed(0)
    # the last class is shown nowhere
    maps = torch.randint(3, (NUM_IMAGES, 2, 5, 5), generator=generator)
    results = [metric.intersect_and_union(*pair, 4, 255) for pair in maps]
    figures = redraw(metric, results, num_draws=20)
    expected = [metric.compute_metrics([results[i] for i in draw])['mIoU'] for draw in DRAWS]
    assert figures == pytest.approx(expected, abs=0.0051)  # they are rounded
    assert len(set(figures)) > 3
    assert figure_of(metric) == 'mIoU'


def boxes(generator, count):
    corners = 40 * torch.rand(count, 2, generator=generator)
    return torch.cat((corners, corners + 10 + 10 * torch.rand(count, 2, generator=generator)), 1)


def detected(images):
    """Scattered boxes of two classes; the metric of 12 random images, by number, also repeated."""
    needs_operators()
    metrics = pytest.importorskip('mmdet.evaluation')
    generator = torch.Generator().manual_seed(0)
    pool = []
    for _ in range(NUM_IMAGES):
        truth = boxes(generator, 3)
        found = truth + 3 * torch.randn(3, 4, generator=generator)
        prediction = dict(
            bboxes=torch.cat((found, boxes(generator, 2))).numpy(),
            scores=torch.rand(5, generator=generator).numpy(),
            labels=np.array([0, 1, 0, 0, 1]),
        )
        anns = [dict(bbox=box, bbox_label=k) for box, k in zip(truth.tolist(), (0, 1, 1))]
        pool.append((dict(width=99, height=99, anns=anns), prediction))
    metric = metrics.CocoMetric(metric='bbox')
    metric.dataset_meta = dict(classes=('a', 'b'))
    return metric, [
        tuple(dict(part, img_id=number) for part in pool[image])
        for number, image in enumerate(images)
    ]


def test_box_ap_is_that_of_the_host_on_copies_of_the_images(capsys):
    metric, results = detected(range(NUM_IMAGES))
    metric.compute_metrics(results)
    capsys.readouterr()
    figures = redraw(metric, results, num_draws=6)
    assert not capsys.readouterr().out  # of the host's, for each draw
    for draw, figure in zip(DRAWS, figures):
        copies, drawn = detected(draw)
        expected = copies.compute_metrics(drawn)['bbox_mAP']
        assert figure == pytest.approx(expected, abs=0.00051)  # rounded
    assert figures.std() > 0.01
    assert figure_of(metric) == 'coco/bbox_mAP'
    for _, found in results:  # without a single box
        found.update(bboxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int))
    assert np.array_equal(redraw(metric, results, num_draws=3), np.zeros(3))


def test_another_metric_is_refused():
    class Loudness(BaseMetric):
        process = compute_metrics = None

    message = 'knows the metrics Accuracy, IoUMetric, CocoMetric, not Loudness'
    with pytest.raises(UserError, match=message):
        figure_of(Loudness())
