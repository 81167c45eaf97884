_base_ = [
    '../_base_/recipes/lacvit_stage2_vit-base.py',
    '../_base_/datasets/lacvit_stanford-cars_224.py',
]
stage1 = 'lacvit_vit-base_stage1_8xb128_stanford-cars-224px'
start = dict(checkpoint=f'work_dirs/{stage1}/epoch_500.pth')
model = dict(backbone=dict(init_cfg=start), head=dict(num_classes=_base_.num_classes))
