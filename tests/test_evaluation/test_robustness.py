"""Disturbances and calibration, and the tool that measures them."""

import json
import pickle

import cv2
import mmcv
import numpy as np
import pytest
import torch

from mmtlalign.evaluation.robustness import (
    drop_patches,
    expected_calibration_error,
    fgsm,
    fitting_patch_size,
)
from tests.tiny import run_tool, write_project


@pytest.mark.parametrize(
    'fraction, dropped', [(0, 0), (0.25, 3), (0.5, 6), (0.54, 6), (0.99, 12), (1, 12)]
)
def test_whole_patches_are_dropped(fraction, dropped):
    images = torch.rand(5, 3, 12, 16) + 1
    generator = torch.Generator().manual_seed(0)
    kept = drop_patches(images, fraction, 4, generator)
    patterns = set()
    for image, before in zip(kept, images):
        pattern = []
        for y in range(0, 12, 4):
            for x in range(0, 16, 4):
                patch = image[:, y : y + 4, x : x + 4]
                gone = bool((patch == 0).all())
                if not gone:
                    assert torch.equal(patch, before[:, y : y + 4, x : x + 4])
                pattern.append(gone)
        assert sum(pattern) == dropped
        patterns.add(tuple(pattern))
    assert (len(patterns) > 1) == (0 < dropped < 12)


@pytest.mark.parametrize(
    'fraction, size, message',
    [
        (1.2, 4, r'fraction=1\.2'),
        (-0.1, 4, 'fraction=-0.1'),
        (0.5, 5, '12x16 pixels .* patches of 5'),
    ],
)
def test_impossible_drops(fraction, size, message):
    with pytest.raises(ValueError, match=message):
        drop_patches(torch.zeros(1, 3, 12, 16), fraction, size)


@pytest.mark.parametrize(
    'side, token, expected',
    [
        # as in the paper, and as near to it as the side permits
        (224, 16, 16),
        (224, 4, 16),
        (240, 16, 16),
        (256, 16, 16),
        (384, 4, 24),
        (384, 16, 32),
        (518, 14, 14),
        (32, 4, 4),
        (32, 1, 2),
        # nothing that divides 30 is made of patches of 4
        (30, 4, 2),
    ],
)
def test_patches_that_fit(side, token, expected):
    assert fitting_patch_size(side, side, token) == expected


def test_patches_that_fit_images_of_any_shape():
    for height in range(1, 40):
        for width in range(1, 40):
            size = fitting_patch_size(height, width, 2)
            drop_patches(torch.zeros(1, 1, height, width), 0.5, size)
            assert size % 2 == 0 or height % 2 or width % 2


def test_fgsm_moves_every_pixel_against_the_true_class():
    mean = torch.tensor([100.0, 120.0, 140.0]).view(3, 1, 1)
    std = torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    pixels = torch.randint(0, 256, (4, 3, 5, 5)).float()
    pixels[:, :, 0], pixels[:, :, 1] = 0, 255
    weight = torch.randn(3 * 5 * 5)

    def classifier(images):  # the logit of class 1 falls along the weight
        score = images.flatten(1) @ weight
        return torch.stack((torch.zeros_like(score), -score), dim=1)

    labels = torch.tensor([1, 0, 1, 0])
    attacks = list(fgsm(classifier, (pixels - mean) / std, labels, [2.0, 8.0], mean, std))
    assert len(attacks) == 2
    # the loss of class 1 grows with the score, that of class 0 falls
    sign = weight.sign().view(3, 5, 5) * (2.0 * labels - 1).view(4, 1, 1, 1)
    for strength, changed in zip([2, 8], attacks):
        expected = (pixels + strength * sign).clamp(0, 255)
        torch.testing.assert_close(changed * std + mean, expected, rtol=0, atol=1e-3)
        assert not changed.requires_grad


def test_fgsm_takes_one_gradient_for_all_strengths():
    calls = []

    def classifier(images):
        calls.append(len(images))
        return images.flatten(1)[:, :2]

    images, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 0])
    list(fgsm(classifier, images, labels, [1.0, 2.0, 3.0], 0.0, 1.0))
    assert calls == [3]


def test_calibration_error_by_hand():
    # confidences .9, .9, .6, .6, .6; right: 1, 0, 1, 1, 0
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]])
    labels = torch.tensor([0, 1, 0, 1, 1])
    by_hand = 2 / 5 * abs(0.5 - 0.9) + 3 / 5 * abs(2 / 3 - 0.6)
    assert expected_calibration_error(scores, labels) == pytest.approx(by_hand, abs=1e-6)
    sure = torch.eye(2)
    assert expected_calibration_error(sure, torch.tensor([0, 1])) == 0
    assert expected_calibration_error(sure, torch.tensor([1, 0])) == 1


@pytest.fixture
def trained(tmp_path):
    """A project with a checkpoint, and two classes of other images."""
    config = write_project(tmp_path, 'train_cfg.update(max_epochs=1)')
    process = run_tool('train.py', config.name, folder=tmp_path)
    assert process.returncode == 0, process.stderr
    for tree in ('noise/1', 'noise/2', 'blur/1'):
        for name in ('class0', 'class2'):
            image = np.random.RandomState(0).randint(0, 255, (16, 16, 3))
            mmcv.imwrite(image.astype(np.uint8), str(tmp_path / f'corrupt/{tree}/{name}/0.png'))
    return tmp_path


def test_tool(trained):
    arguments = 'tiny.py work_dirs/tiny/epoch_1.pth --drop 0 1 --fgsm 0 4 --folders C=corrupt'
    process = run_tool('analysis_tools/robustness.py', *arguments.split(), folder=trained)
    assert process.returncode == 0, process.stderr
    result = json.loads((trained / 'robustness.json').read_text())
    top1 = result['top1']
    assert set(top1) == {'clean', 'drop 0', 'drop 1', 'fgsm 0/255', 'fgsm 4/255', 'C'}
    arguments = 'tiny.py work_dirs/tiny/epoch_1.pth --out predictions.pkl'
    tested = run_tool('test.py', *arguments.split(), folder=trained)
    assert f'accuracy/top1: {top1["clean"]:.4f}' in tested.stdout
    with open(trained / 'predictions.pkl', 'rb') as file:
        best = [max(sample['pred_score']) for sample in pickle.load(file)]
    assert result['confidence'] == pytest.approx(100 * np.mean(best), 1e-4)
    assert f'mean confidence {result["confidence"]:.2f} %' in process.stdout
    assert top1['drop 0'] == top1['fgsm 0/255'] == top1['clean']
    # nothing is left to tell 12 images of 3 equal classes apart
    assert top1['drop 1'] == pytest.approx(100 / 3)
    assert top1['fgsm 4/255'] <= top1['clean']
    # one image for two classes
    assert top1['C'] == pytest.approx(50)
    assert result['num_images'] == 12
    assert cv2.imread(str(trained / 'robustness.png')).std() > 0


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['tiny.py', 'gone.pth'], "checkpoint 'gone.pth' does not exist"),
        (['tiny.py', 'tiny.py', '--folders', 'A'], "'A' must be NAME=FOLDER"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    write_project(tmp_path)
    process = run_tool('analysis_tools/robustness.py', *arguments, folder=tmp_path)
    assert process.returncode != 0
    assert message in process.stderr and process.stderr.count('\n') == 1
