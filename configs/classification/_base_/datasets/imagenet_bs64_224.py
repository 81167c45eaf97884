# ImageNet-1k with the host's timm-style augmentation: bicubic random crops,
# flips, RandAugment m9 (std .5, increasing), random erasing .25; testing on
# the central 224 px of 256. Colour jitter, named in many recipes, is inactive
# beside RandAugment in timm, and so is absent here.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

train_dataloader = dict(collate_fn=dict(type='default_collate'))
val_dataloader = dict(collate_fn=dict(type='default_collate'))
test_dataloader = dict(collate_fn=dict(type='default_collate'))
