"""What is kept of a validation image, by samples of each host."""

import base64

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from mmtlalign.evaluation.bootstrap import paired_difference
from mmtlalign.evaluation.predictions import SIDE, draw, measure, per_class, to_uri

from ..conftest import needs_operators

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


def decode(uri):
    data = np.frombuffer(base64.b64decode(uri.partition('base64,')[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def classified(label, scores, **meta):
    sample = DataSample(metainfo=meta)
    sample.set_gt_label(label).set_pred_score(torch.tensor(scores))
    return sample


def test_a_classified_image():
    found = measure(classified(1, [0.5, 0.25, 0.25], img_path='/data/val/cat/a.png'), 'abc')
    assert found == dict(name='cat/a.png', label=1, predicted=0, score=0.5, error=1.3863)
    assert measure(classified(0, [1.0, 0.0], sample_idx=7), 'ab')['name'] == 'image 7'
    assert np.isfinite(measure(classified(1, [1.0, 0.0]), 'ab')['error'])
    for sample in classified([0, 1], [1.0, 0.0]), DataSample().set_pred_score(torch.ones(3)):
        assert measure(sample, 'abc') is None


@pytest.mark.parametrize('is_rgb', [False, True])
def test_red_stays_red(is_rgb):
    image = torch.zeros(3, 8, 6, dtype=torch.uint8)
    image[0 if is_rgb else 2] = 255
    pixels = decode(draw(image, classified(0, [1.0]), is_rgb, PALETTE)['picture'])
    assert pixels.shape == (8, 6, 3)
    assert (pixels == [0, 0, 255]).all()  # BGR


def test_large_pictures_shrink():
    assert decode(to_uri(np.zeros((1000, 500, 3)))).shape == (SIDE, SIDE // 2, 3)


def detected(boxes, scores, labels, true_boxes, true_labels):
    from mmdet.structures import DetDataSample

    def instances(boxes, labels, **fields):
        labels = torch.tensor(labels, dtype=torch.long)
        return InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), labels=labels, **fields)

    sample = DetDataSample(metainfo=dict(img_path='a.png', ori_shape=(50, 100)))
    sample.pred_instances = instances(boxes, labels, scores=torch.tensor(scores))
    sample.gt_instances = instances(true_boxes, true_labels)
    return sample


def test_a_detected_image():
    """One found, one found twice, one of the wrong class, one too unsure."""
    needs_operators()
    square, other = [0.0, 0.0, 10.0, 10.0], [50.0, 20.0, 90.0, 40.0]
    sample = detected(
        [square, square, other, other], [0.9, 0.8, 0.7, 0.2], [0, 0, 0, 1], [square, other], [0, 1]
    )
    found = measure(sample, 'ab')
    assert (found['missed'], found['false'], found['error']) == (1, 2, 3)
    drawn = draw(torch.zeros(3, 50, 100), sample, False, PALETTE)
    assert drawn['true_boxes'][1] == [0.5, 0.4, 0.9, 0.8, 1, 1.0]
    assert [box[4:] for box in drawn['boxes']] == [[0, 0.9], [0, 0.8], [0, 0.7]]
    unit, figures = per_class([found], 2)
    # the second class: its only box is right, however unsure
    assert unit == 'AP50' and figures == pytest.approx([100, 100])
    empty = measure(detected([], [], [], [square], [0]), 'ab')
    assert (empty['missed'], empty['false']) == (1, 0)
    assert per_class([empty], 2)[1] == [0, None]


def test_classes_are_judged_over_all_images():
    """Right at once, then wrong, then right: precisions 1 and 2/3 at recalls 1/3, 2/3."""
    needs_operators()
    square, other = [0.0, 0.0, 10.0, 10.0], [50.0, 20.0, 90.0, 40.0]
    images = [
        detected([square], [0.9], [0], [square], [0]),
        detected([], [], [], [], []),
        detected([other], [0.8], [0], [square], [1]),
        detected([square], [0.7], [0], [square, other], [0, 0]),
    ]
    unit, figures = per_class([measure(image, 'abc') for image in images], 3)
    assert unit == 'AP50' and figures == [pytest.approx(100 * (1 + 2 / 3) / 3), 0, None]


def test_a_segmented_image():
    needs_operators()
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_path='a.png'))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 0, 1, 255]]]))
    sample.pred_sem_seg = PixelData(data=torch.tensor([[[0, 1, 1, 2]]]))
    found = measure(sample, 'abc')
    assert found['error'] == pytest.approx(1 / 3, abs=1e-4) and found['kinds'] == [0, 1]
    unit, figures = per_class([found, found], 3)
    assert unit == 'IoU' and figures == [50, 50, None]
    drawn = draw(torch.zeros(3, 1, 4, dtype=torch.uint8), sample, False, PALETTE)
    pixels = decode(drawn['true_map'])[0, :, ::-1].tolist()
    assert pixels == [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0]]


def test_the_paired_difference():
    rng = np.random.default_rng(1)
    first, other = rng.random(400), rng.random(400) + 0.1
    mean, low, high = paired_difference(first, other)
    gaps = other - first
    width = 1.96 * gaps.std() / 20
    assert mean == pytest.approx(gaps.mean())
    assert (low, high) == pytest.approx((mean - width, mean + width), abs=0.15 * width)
    assert paired_difference([True, False], [True, False]) == (0, 0, 0)
