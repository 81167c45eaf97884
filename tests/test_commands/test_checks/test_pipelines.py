"""Transforms that would leave masks and token labels where the image was."""

import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmpretrain.utils import register_all_modules

from mmtlalign.commands.checks import check_data
from mmtlalign.commands.checks.pipelines import HIDES, IN_PLACE, check_annotations
from mmtlalign.datasets.transforms import carrying
from mmtlalign.errors import UserError

from .conftest import config, refused

DIGITS = dict(type='mmtlalign.PlantedDigits', split='train', num_images=2)
LOAD = dict(type='mmtlalign.LoadObjectMask', folder='masks')


def planted(*steps, handed_on=('object_mask',), **options):
    pack = dict(type='PackInputs', algorithm_keys=handed_on)
    return config(train=dict(DIGITS, pipeline=[*steps, pack], **options))


def within(kind, **options):
    return dict(type='RandomApply', transforms=[dict(type=kind, **options)])


@pytest.mark.parametrize(
    'step, place, remedy',
    [
        (dict(type='RandomFlip'), '0', 'use mmtlalign.RandomFlip'),
        (dict(type='mmcv.Resize', scale=8), '0', 'use mmtlalign.Resize'),
        (dict(type='RandAugment'), '0', 'use mmtlalign.RandAugment'),
        (dict(type='Pad', size=(40, 40)), '0', 'take it out; docs/faithfulness.md'),
        (dict(type='RandomErasing'), '0', 'take it out'),
        (dict(type='RandomResize', scale=(8, 8)), '0', 'take it out'),
        (within('Rotate', angle=9.0), '0.transforms.0', 'use mmtlalign.Rotate'),
        (within('torchvision/RandomRotation', degrees=9), '0.transforms.0', 'take it out'),
        (
            dict(type='mmtlalign.RandAugment', policies=[dict(type='Cutout')]),
            '0.policies.0',
            'take it out',
        ),
    ],
    ids=str,
)
def test_moved_alone_is_refused(step, place, remedy):
    said = refused(planted(step))
    assert f'pipeline.{place} is a host' in said and 'object_mask' in said and remedy in said


def test_moved_together_passes():
    check_data(
        planted(
            dict(type='mmtlalign.RandomFlip'),
            within('mmtlalign.Rotate', angle=9.0),
            dict(type='mmtlalign.RandAugment', policies='timm_increasing'),
            dict(type='ColorJitter', brightness=0.4),
            dict(type='mmtlalign.RandAugment', policies=[dict(type='Rotate', angle=9.0)]),
            dict(
                type='mmtlalign.CenterCrop', crop_size=40, auto_pad=True, pad_cfg=dict(type='Pad')
            ),
            dict(type='RandomResize', scale=(8, 8), resize_type='mmtlalign.Resize'),
        ),
        'train',
    )


def test_nothing_carried_or_nothing_that_hides_labels_passes():
    check_data(planted(dict(type='RandomFlip'), handed_on=()), 'train')
    check_data(planted(dict(type='RandomErasing'), handed_on=('token_labels',)), 'train')
    assert 'token_labels' in refused(planted(dict(type='RandomFlip'), handed_on=('token_labels',)))


def test_masks_loaded_after_a_move_are_refused():
    check_data(planted(LOAD, dict(type='mmtlalign.RandomFlip')), 'train')
    said = refused(planted(dict(type='mmtlalign.RandomFlip'), LOAD))
    assert 'pipeline.1 (LoadObjectMask) comes after RandomFlip' in said


@pytest.mark.parametrize(
    'scope, phase, evaluator, needed',
    [
        ('mmdet', 'train', None, True),
        ('mmdet', 'val', dict(type='CocoMetric'), False),
        ('mmseg', 'train', None, True),
        ('mmseg', 'val', dict(type='IoUMetric'), True),
        ('mmseg', 'test', [dict(type='IoUMetric', format_only=True)], False),
        ('mmpretrain', 'train', None, False),
    ],
)
def test_annotations_must_be_loaded(scope, phase, evaluator, needed):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    where = f'{phase}_dataloader.dataset.pipeline'
    cfg = Config({'default_scope': scope, f'{phase}_evaluator': evaluator})
    load, annotations = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    own = dict(type=type('LoadMine', (BaseTransform,), {'transform': None}))
    for steps in [load, annotations], [load, within('LoadAnnotations')], [load, own]:
        check_annotations(where, steps, cfg)
    if needed:
        with pytest.raises(UserError, match='pipeline loads no annotations.*LoadAnnotations'):
            check_annotations(where, [load, dict(type='RandomFlip', prob=0.5)], cfg)
    else:
        check_annotations(where, [load], cfg)


def test_transforms_of_ones_own_may_move_what_they_like():
    own = type('RandomFlip', (BaseTransform,), {'transform': None, '__module__': 'mine'})
    check_data(planted(dict(type=own)), 'train')


@pytest.mark.parametrize('keys', [dict(meta_keys=('img_path', 'object_mask')), dict()])
def test_handed_on_by_any_packing(keys):
    pack = dict(type='PackInputs', **(keys or dict(algorithm_keys=('object_mask',))))
    steps = [dict(type='RandomFlip'), dict(type='RandomApply', transforms=[pack])]
    assert 'use mmtlalign.RandomFlip' in refused(config(train=dict(DIGITS, pipeline=steps)))


def test_all_that_is_in_place_is_known():
    """By its name, of some host."""
    register_all_modules(init_default_scope=False)
    names = {'PhotoMetricDistortion', 'YOLOXHSVRandomAug', 'Color'}  # of mmdet
    names |= {'AdjustGamma', 'CLAHE', 'RGB2Gray'}  # of mmseg
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        for name in (*registry.parent.module_dict, *registry.module_dict):
            names.add(name.removeprefix('torchvision/'))
    assert IN_PLACE <= names
    assert {*HIDES} & names == {'Cutout', 'RandomErasing'}
    ours = {
        name
        for name, part in vars(carrying).items()
        if getattr(part, '__module__', '') == carrying.__name__ and hasattr(part, 'transform')
    }
    assert not ours & IN_PLACE
