# mmdet's single-scale recipe for 12 epochs; the drop path is Swin's for that
# many.
_base_ = [
    '../_base_/models/mask-rcnn_swin-tiny_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.1))
