import json

import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands.checks import check_data
from mmtlalign.errors import UserError

from ...conftest import needs_operators

needs_operators()

CLASSES = ('RBC', 'WBC', 'Platelets')


def coco(names=CLASSES, **more):
    return dict(
        dict(
            images=[dict(id=1, file_name='1.jpg', width=4, height=4)],
            annotations=[
                dict(id=1, image_id=1, category_id=1, area=4, iscrowd=0, bbox=[0, 0, 2, 2])
            ],
            categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
        ),
        **more,
    )


@pytest.fixture
def check(tmp_path):
    """Check a config against a file of this content."""

    def run(content, classes=CLASSES, phase='train', model=None, **dataset):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / 'boxes.json').write_text(text)
        Image.new('RGB', (4, 4)).save(tmp_path / '1.jpg')
        dataset = dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='boxes.json',
            data_prefix=dict(img=''),
            **dataset,
        )
        if classes is not None:
            dataset['metainfo'] = dict(classes=classes)
        check_data(
            Config(
                {
                    'default_scope': 'mmdet',
                    f'{phase}_cfg': dict(),
                    f'{phase}_dataloader': dict(dataset=dataset),
                    'model': model or dict(),
                }
            ),
            phase,
        )

    return run


def test_the_same_names_in_the_same_order_pass(check):
    check(coco())
    check(coco(), classes=list(CLASSES), phase='val')


@pytest.mark.parametrize(
    'classes',
    [
        ('RBC', 'Platelets', 'WBC'),
        ('rbc', 'WBC', 'Platelets'),
        ('RBC', 'WBC'),
        CLASSES + ('more',),
        (),
    ],
    ids=['order', 'spelling', 'fewer', 'more', 'none'],
)
@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
def test_other_names_are_refused_with_both_lists(check, classes, phase):
    with pytest.raises(UserError) as error:
        check(coco(), classes=classes, phase=phase)
    message = str(error.value)
    assert "['RBC', 'WBC', 'Platelets']" in message  # the file's
    assert str(list(classes)) in message
    assert 'boxes.json' in message and 'metainfo.classes' in message
    assert '\n' not in message


def test_names_may_come_from_the_class_or_a_file(check, tmp_path):
    with pytest.raises(UserError, match="expects .'person', 'bicycle', "):
        check(coco(), classes=None)
    (tmp_path / 'names.txt').write_text('\n'.join(CLASSES))
    check(coco(), classes=str(tmp_path / 'names.txt'))


@pytest.mark.parametrize(
    'content, complaint',
    [
        ('', 'is empty'),
        ('{"images": [', 'is no JSON'),
        ('[]', 'holds a list'),
        (coco(images=[]), 'has no images'),
        (coco(annotations=[]), 'has no annotations'),
        (coco(categories=[]), 'has no categories'),
        ({}, 'has no images'),
    ],
)
def test_damaged_and_empty_files_are_refused(check, content, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        check(content)
    assert 'boxes.json' in str(error.value)


def test_test_files_need_no_annotations(check):
    content = coco()
    del content['annotations']
    check(content, phase='test')
    with pytest.raises(UserError, match='has no annotations'):
        check(content, phase='val')


@pytest.mark.parametrize(
    'roi_head, place',
    [
        (dict(bbox_head=dict(num_classes=80)), r'bbox_head\.num_classes is 80'),
        (
            dict(bbox_head=[dict(num_classes=3), dict(num_classes=2)]),
            r'bbox_head\.1\.num_classes is 2',
        ),
        (
            dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=4)),
            r'mask_head\.num_classes is 4',
        ),
    ],
)
def test_heads_with_another_number_of_classes_are_refused(check, roi_head, place):
    with pytest.raises(
        UserError,
        match=rf'model\.roi_head\.{place}.*'
        r'3 classes \(RBC, WBC, Platelets\).*num_classes=3',
    ):
        check(coco(), model=dict(roi_head=roi_head))


def test_heads_that_agree_or_do_not_classify_pass(check):
    check(
        coco(),
        model=dict(
            rpn_head=dict(num_classes=1),
            roi_head=dict(
                bbox_head=[dict(num_classes=3)],
                mask_head=dict(type='FCNMaskHead'),
                semantic_head=dict(num_classes=183),
            ),
        ),
    )


def test_a_missing_file_is_named_for_metrics_too(tmp_path):
    cfg = Config(
        dict(
            default_scope='mmdet',
            val_cfg=dict(),
            data_hint='unpack it',
            val_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_evaluator=[dict(type='CocoMetric', ann_file='gone.json')],
        )
    )
    with pytest.raises(UserError, match="'gone.json' .val_evaluator.ann_file.*unpack it"):
        check_data(cfg, 'val')
    cfg.val_dataloader.dataset.ann_file = 'lost.json'
    with pytest.raises(UserError, match="'lost.json' .val_dataloader"):
        check_data(cfg, 'val')
