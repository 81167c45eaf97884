# MixPro's recipe for DeiT-S, from `config.py` and
# `configs/deit/deit_small_patch14_mask56_224_alpha1.yaml` of its code: patches
# of 14 px, so that 4x4 cells of 56 px hold whole patches; MaskMix for half of
# the batches, Mixup and CutMix for a quarter each; Swin's schedule. It used
# mixed precision (`--amp`).
#
# Two things differ. The published code labels CutMix's batches by area, and
# here one target labels all; it smooths no labels in MaskMix's batches, and
# here all are smoothed.
_base_ = [
    '../_base_/models/deit-small_224.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(patch_size=14),
    target=dict(type='mmtlalign.ProgressiveTarget'),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.MaskMix', alpha=1.0, cell_size=4, patch_size=14),
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=14),
            dict(type='mmtlalign.CutMix', alpha=1.0, patch_size=14),
        ],
        probs=[0.5, 0.25, 0.25],
    ),
)

train_dataloader = dict(batch_size=128)

optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
    ),
)
