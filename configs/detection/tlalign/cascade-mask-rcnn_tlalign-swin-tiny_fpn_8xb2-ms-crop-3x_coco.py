# Swin's published recipe for 36 epochs; it used mixed precision (`--amp`).
_base_ = [
    '../_base_/models/cascade-mask-rcnn_swin-tiny_fpn.py',
    '../_base_/datasets/coco_instance_ms-crop.py',
    '../_base_/schedules/adamw_3x.py',
    '../_base_/default_runtime.py',
]
