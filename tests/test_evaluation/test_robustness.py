"""Disturbances and calibration, and the tool that measures them."""

import json

import cv2
import mmcv
import numpy as np
import pytest
import torch

from mmtlalign.apis import get_model
from mmtlalign.evaluation.robustness import (
    calibration_error,
    drop_patches,
    expected_calibration_error,
    fgsm,
    fitting_patch_size,
)
from tests.tiny import run_tool, write_project


@pytest.mark.parametrize('fraction, dropped', [(0, 0), (0.25, 3), (0.54, 6), (0.99, 12), (1, 12)])
def test_whole_patches_are_dropped(fraction, dropped):
    images = torch.rand(5, 3, 12, 16) + 1
    kept = drop_patches(images, fraction, 4, torch.Generator().manual_seed(0))
    patches, before = (part.unfold(2, 4, 4).unfold(3, 4, 4) for part in (kept, images))
    gone = (patches == 0).all((-1, -2)).all(1)
    assert (gone.sum((1, 2)) == dropped).all()
    assert torch.equal(patches, before * ~gone[:, None, ..., None, None])
    patterns = {tuple(pattern.flatten().tolist()) for pattern in gone}
    assert (len(patterns) > 1) == (0 < dropped < 12)


@pytest.mark.parametrize(
    'fraction, size, message',
    [(1.2, 4, r'fraction=1\.2'), (-0.1, 4, '=-0.1'), (0.5, 5, '12x16 pixels .* patches of 5')],
)
def test_impossible_drops(fraction, size, message):
    with pytest.raises(ValueError, match=message):
        drop_patches(torch.zeros(1, 3, 12, 16), fraction, size)


def test_patches_that_fit():
    """As in the paper, or as near to it as the side permits."""
    sides = {(224, 16): 16, (224, 4): 16, (384, 4): 24, (384, 16): 32, (518, 14): 14, (32, 1): 2}
    sides[30, 4] = 2  # nothing that divides it is made of patches of 4
    for (side, token), expected in sides.items():
        assert fitting_patch_size(side, side, token) == expected
    for height, width in np.ndindex(20, 20):
        size = fitting_patch_size(height + 1, width + 1, 2)
        drop_patches(torch.zeros(1, 1, height + 1, width + 1), 0.5, size)
        assert size % 2 == 0 or height % 2 == 0 or width % 2 == 0


def test_fgsm_moves_every_pixel_against_the_true_class():
    mean = torch.tensor([100.0, 120.0, 140.0]).view(3, 1, 1)
    std = torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    pixels = torch.randint(0, 256, (4, 3, 5, 5)).float()
    pixels[:, :, 0], pixels[:, :, 1] = 0, 255
    weight = torch.randn(3 * 5 * 5)

    calls = []

    def classifier(images):  # the logit of class 1 falls along the weight
        calls.append(len(images))
        score = images.flatten(1) @ weight
        return torch.stack((torch.zeros_like(score), -score), dim=1)

    labels = torch.tensor([1, 0, 1, 0])
    attacks = list(fgsm(classifier, (pixels - mean) / std, labels, [2.0, 8.0], mean, std))
    assert len(attacks) == 2 and calls == [4]  # one gradient for all strengths
    # the loss of class 1 grows with the score, that of class 0 falls
    sign = weight.sign().view(3, 5, 5) * (2.0 * labels - 1).view(4, 1, 1, 1)
    for strength, changed in zip([2, 8], attacks):
        expected = (pixels + strength * sign).clamp(0, 255)
        torch.testing.assert_close(changed * std + mean, expected, rtol=0, atol=1e-3)
        assert not changed.requires_grad


def test_calibration_error_by_hand():
    # confidences .9, .9, .6, .6, .6; right: 1, 0, 1, 1, 0
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]])
    labels = torch.tensor([0, 1, 0, 1, 1])
    by_hand = 2 / 5 * abs(0.5 - 0.9) + 3 / 5 * abs(2 / 3 - 0.6)
    assert expected_calibration_error(scores, labels) == pytest.approx(by_hand, abs=1e-6)
    confidence, predicted = scores.max(1)
    assert calibration_error(confidence, predicted == labels) == pytest.approx(by_hand, abs=1e-6)
    sure = torch.eye(2)
    assert expected_calibration_error(sure, torch.tensor([0, 1])) == 0
    assert expected_calibration_error(sure, torch.tensor([1, 0])) == 1


@pytest.mark.slow
def test_tool(tmp_path):
    """On a random model and two classes of other images."""
    model = get_model(write_project(tmp_path))
    head = model.head.layers.head
    torch.nn.init.normal_(head.weight)
    head.bias.data[1] = -100  # never class1
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    for tree in ('noise/1', 'noise/2', 'blur/1'):
        for name in ('class0', 'class2'):
            image = np.random.RandomState(0).randint(0, 255, (16, 16, 3))
            mmcv.imwrite(image.astype(np.uint8), str(tmp_path / f'corrupt/{tree}/{name}/0.png'))

    def measure(arguments):
        return run_tool('analysis_tools/robustness.py', *arguments.split(), folder=tmp_path)

    process = measure('tiny.py a.pth --drop 0 1 --fgsm 0 4 --folders C=corrupt')
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / 'robustness.json').read_text())
    top1 = result['top1']
    assert set(top1) == {'clean', 'drop 0', 'drop 1', 'fgsm 0/255', 'fgsm 4/255', 'C'}
    paths = sorted((tmp_path / 'images').glob('*/*'))
    images = torch.from_numpy(np.stack([cv2.imread(str(path)) for path in paths]))
    samples = model.test_step(dict(inputs=images.permute(0, 3, 1, 2), data_samples=None))
    right = [f'class{s.pred_label.item()}' == p.parent.name for s, p in zip(samples, paths)]
    assert top1['clean'] == pytest.approx(100 * np.mean(right))
    best = [sample.pred_score.max().item() for sample in samples]
    assert result['confidence'] == pytest.approx(100 * np.mean(best), 1e-4)
    assert f'mean confidence {result["confidence"]:.2f} %' in process.stdout
    assert top1['drop 0'] == top1['fgsm 0/255'] == top1['clean']
    # nothing is left to tell 12 images of 3 equal classes apart
    assert top1['drop 1'] == pytest.approx(100 / 3)
    assert top1['fgsm 4/255'] <= top1['clean']
    # one image for two classes
    assert top1['C'] == pytest.approx(50)
    assert result['num_images'] == 12
    assert cv2.imread(str(tmp_path / 'robustness.png')).std() > 0
    process = measure('tiny.py a.pth --folders A')
    assert process.returncode != 0
    assert "'A' must be NAME=FOLDER" in process.stderr and process.stderr.count('\n') == 1
