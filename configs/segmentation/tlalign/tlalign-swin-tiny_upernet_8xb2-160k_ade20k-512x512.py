_base_ = [
    '../_base_/models/upernet_swin-tiny.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/160k_adamw.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'work_dirs/tlalign_swin-tiny_16xb64_in1k/epoch_300.pth'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'))
)
