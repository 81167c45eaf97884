"""Token labels and masks move as the image does, whose brightness they hold."""

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from mmpretrain.utils import register_all_modules

from mmtlalign.datasets import ObjectMask, TokenLabels
from mmtlalign.models.data_preprocessors.token_scores import crop_scores, expand_maps

MARKER, CLASSES, GRID = 7, 10, 8


@pytest.fixture(autouse=True, scope='module')
def host_scope():
    register_all_modules(init_default_scope=False)


def labelled(size, mode='probs', cells=32):
    """A smooth image, nowhere alike, its mask, and a map that knows how bright it is."""
    y, x = np.indices(size) / np.reshape(size, (2, 1, 1))
    grey = 255 * np.exp(-(((y - 0.35) / 0.225) ** 2) - ((x - 0.58) / 0.25) ** 2)
    grey[(y > 0.12) & (y < 0.23) & (x > 0.19) & (x < 0.39)] = 180
    grey = np.rint(grey).astype(np.uint8)
    bright = cv2.resize(grey, (cells, cells), interpolation=cv2.INTER_AREA) / 255.0
    ids = np.broadcast_to(np.array([0, MARKER, 3], np.int16), (cells, cells, 3))
    scores = np.stack((0.8 - 0.8 * bright, 0.8 * bright + 0.1, 0 * bright + 0.05), -1)
    if mode == 'logits':
        scores = bright[..., None] * [0, 5, 0]
    box = np.array([0, 0, cells, cells], np.float32)
    labels = TokenLabels(ids, scores.astype(np.float16), box, size, CLASSES, mode)
    return dict(img=grey[..., None].repeat(3, 2), token_labels=labels, object_mask=ObjectMask(grey))


def token_scores(labels):
    """Probabilities of every token, (GRID, GRID, K)."""
    maps = expand_maps(
        torch.from_numpy(np.ascontiguousarray(labels.ids)[None]),
        torch.from_numpy(np.ascontiguousarray(labels.scores)[None]),
        labels.num_classes,
        labels.score_mode,
    )
    scores = crop_scores(maps, torch.from_numpy(labels.box[None]), (GRID, GRID), labels.score_mode)
    return scores[0].view(GRID, GRID, -1).numpy()


def gap_of_labels(results):
    """Between what tokens are known to be of the marker and what the image shows in them."""
    labels = results['token_labels']
    assert labels.flip == results.get('flip', False)
    image = results['img'][..., 0] / 255
    seen = cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_AREA)
    odds = np.exp(5 * seen)
    shown = dict(probs=0.1 + 0.8 * seen, logits=odds / (odds + CLASSES - 1))
    return np.abs(token_scores(labels)[..., MARKER] - shown[labels.score_mode])


def transform(results, *steps):
    for step in steps:
        results = TRANSFORMS.build({**padded(step), 'type': f'mmtlalign.{step["type"]}'})(results)
    return results


def padded(step):
    """With black instead of grey where nothing comes into view, and interpolated as masks are."""
    moves = step['type'] in ('Rotate', 'Shear', 'Translate')
    return {**step, **(dict(pad_val=0, interpolation='bilinear') if moves else {})}


def moves(kind, **options):
    return dict(type=kind, prob=1.0, **options)


CROP = dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.6, 0.8))
HALF = dict(CROP, crop_ratio_range=(0.5, 0.5))
OPERATIONS = dict(
    nothing=[],
    flip=[moves('RandomFlip')],
    flip_vertical=[moves('RandomFlip', direction='vertical')],
    flip_both=[moves('RandomFlip', direction='diagonal')],
    flip_twice=[moves('RandomFlip'), moves('RandomFlip')],
    flip_once=[moves('RandomFlip'), dict(type='RandomFlip', prob=0.0)],
    rotate=[moves('Rotate', angle=20.0)],
    rotate_off_center=[moves('Rotate', angle=15.0, center=(20.0, 10.0), scale=0.9)],
    shear=[moves('Shear', magnitude=0.2)],
    shear_vertical=[moves('Shear', magnitude=0.2, direction='vertical')],
    translate=[moves('Translate', magnitude=0.2)],
    translate_vertical=[moves('Translate', magnitude=0.2, direction='vertical')],
    crop=[CROP],
    # shapes no recipe draws: a box of which one side is a third of the other
    crop_wide=[dict(HALF, aspect_ratio_range=(2.8, 3))],
    crop_tall=[dict(HALF, aspect_ratio_range=(0.33, 0.36))],
    rotate_flip_crop=[moves('Rotate', angle=20.0), moves('RandomFlip'), CROP],
    crop_flip_shear_translate=[
        CROP,
        moves('RandomFlip'),
        moves('Shear', magnitude=0.15),
        moves('Translate', magnitude=0.1, direction='vertical'),
    ],
)


CROPS = dict(
    flip_perhaps=[dict(type='RandomFlip', prob=0.5)],
    shift=[dict(type='RandomCrop', crop_size=(40, 52), padding=6)],
    shift_unevenly=[dict(type='RandomCrop', crop_size=30, padding=(1, 7, 3, 2))],
    shift_sideways=[dict(type='RandomCrop', crop_size=(40, 52), padding=(6, 2))],
    crop_as_it_is=[dict(type='RandomCrop', crop_size=28)],
    resize=[dict(type='Resize', scale=(64, 48))],
    rescale=[dict(type='Resize', scale=(64, 48), keep_ratio=True)],
    test=[dict(type='ResizeEdge', scale=48), dict(type='CenterCrop', crop_size=40)],
    test_padded=[
        dict(type='ResizeEdge', scale=32, edge='long'),
        dict(type='CenterCrop', crop_size=32, auto_pad=True),
    ],
)


@pytest.mark.parametrize('steps', [*OPERATIONS.values(), *CROPS.values()], ids=str)
@pytest.mark.parametrize(
    'size, mode, draws',
    [
        ((40, 52), 'probs', 8),
        ((120, 120), 'probs', 4),
        ((300, 60), 'logits', 4),
        ((60, 300), 'logits', 4),
    ],
)
def test_images_and_draws_are_the_hosts_and_what_lies_on_them_follows(steps, size, mode, draws):
    turns = any(step['type'] == 'Rotate' for step in steps)
    moved = 0
    for seed in range(draws):
        np.random.seed(seed)
        on_it = labelled(size, mode)
        before = on_it['img']
        expected = dict(img=before.copy())
        for step in steps:
            expected = TRANSFORMS.build(padded(step))(expected)
        after = np.random.rand()
        for results in (dict(img=before.copy()), dict(on_it, img=before.copy())):
            np.random.seed(seed)
            results = transform(results, *steps)
            np.testing.assert_array_equal(results['img'], expected['img'])
            assert np.random.rand() == after
        mask = results['object_mask'].pixels
        assert mask.dtype == np.uint8
        gap = np.abs(mask.astype(int) - results['img'][..., 0])
        # rotation centres and rounding differ by parts of a pixel
        assert gap.max() <= (40 if turns else 3) and gap.mean() < 1
        gap = gap_of_labels(results)
        assert gap.max() < 0.35 and gap.mean() < 0.03
        moved += not np.array_equal(expected['img'], before)
        np.testing.assert_array_equal(on_it['object_mask'].pixels, before[..., 0])
    assert moved or steps in (OPERATIONS['nothing'], OPERATIONS['flip_twice'])


# as ImageNet recipes draw it
RAND_AUGMENT = dict(
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=[0, 0, 0], interpolation='bilinear'),
)


@pytest.mark.slow
def test_rand_augment_draws_as_the_host_and_moves_the_map():
    moved = 0
    for seed in range(40):
        drawn = []
        for kind in ('RandAugment', 'mmtlalign.RandAugment'):
            results = labelled((48, 64))
            before = results['token_labels']
            np.random.seed(seed)
            drawn.append(TRANSFORMS.build(dict(RAND_AUGMENT, type=kind))(results))
        np.testing.assert_array_equal(drawn[1]['img'], drawn[0]['img'])
        moved += drawn[1]['token_labels'] is not before
    # two of 15 operations, 5 of them geometric, each applied half the time: 1 - (1 - 1/6)^2 = 31 %
    assert 0.1 < moved / 40 < 0.52


def test_rand_augment_by_a_list_of_policies():
    policies = [dict(type='Invert'), dict(type='Rotate', magnitude_range=(0, 30))]
    step = TRANSFORMS.build(
        dict(RAND_AUGMENT, type='mmtlalign.RandAugment', num_policies=1, policies=policies)
    )
    kinds = [type(t).__module__.split('.')[0] for t in step]
    assert kinds == ['mmpretrain', 'mmtlalign']


@pytest.mark.parametrize('magnitudes', [[0.5], [-0.5, 0.5]])
@pytest.mark.parametrize('mode', ['probs', 'logits'])
def test_what_comes_into_view_is_even(mode, magnitudes):
    """What one operation pushes out of view, another does not bring back."""
    step = dict(type='Translate', prob=1.0, random_negative_prob=0.0)
    steps = [dict(step, magnitude=magnitude) for magnitude in magnitudes]
    results = transform(labelled((80, 80), mode), *steps)
    scores = token_scores(results['token_labels'])
    np.testing.assert_allclose(scores[:, :3], 1 / CLASSES, atol=2e-3)
    assert (scores[:, 5:] - 1 / CLASSES).max() > 0.3
    assert not results['img'][:, :40].any()


def test_warped_map_against_a_dense_one():
    """Interpolated class by class by OpenCV; nothing is cut at k classes."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(4, 0.5), (12, 12)).astype(np.float16)
    ids = np.broadcast_to(np.arange(4), (12, 12, 4)).astype(np.int16)
    labels = TokenLabels(ids, probs, np.array([0, 0, 12, 12], np.float32), (12, 12), 4)
    # pixels are cells, so the map moves as an image of its size does
    matrix = cv2.getRotationMatrix2D((5.5, 5.5), 17, 0.8)
    matrix[:, 2] += 1.3, -0.6
    warped = labels.warped(matrix)
    expected = cv2.warpAffine(
        probs.astype(np.float32),
        matrix,
        (12, 12),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = cv2.warpAffine(
        np.ones((12, 12), np.float32), matrix, (12, 12), flags=cv2.INTER_NEAREST
    )
    found = np.zeros((12, 12, 4))
    np.put_along_axis(found, warped.ids.astype(int), warped.scores, 2)
    inner = cv2.erode(inside, np.ones((3, 3))) > 0
    assert inner.sum() > 30
    # OpenCV rounds positions to 1/32 pixel
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.05)
    outer = cv2.dilate(inside, np.ones((3, 3))) == 0
    np.testing.assert_allclose(found[outer], 0.25, atol=1e-3)


def test_warped_maps_keep_their_size_and_probability():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(30, 0.1), (9, 7))
    ids = np.argsort(-probs, -1)[..., :3].astype(np.int16)
    scores = np.take_along_axis(probs, ids, -1).astype(np.float16)
    labels = TokenLabels(ids, scores, np.array([1, 2, 6, 8], np.float32), (50, 80), 30)
    warped = labels.warped(np.array([[1, 0.2, -3], [0.1, 1, 4]]))
    assert warped.ids.shape == ids.shape and warped.ids.dtype == np.int16
    assert warped.scores.dtype == np.float16
    assert (warped.scores.sum(-1, dtype=float) < 1.002).all()
    assert all(len(set(cell)) == 3 for cell in warped.ids.reshape(-1, 3))
