# mmpretrain's recipe for Twins, with CutMix on the 4 px grid of patches, and
# with the paper's drop path rate for the small network.
_base_ = [
    'mmpretrain::_base_/models/twins_svt_base.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(arch='small', drop_path_rate=0.2),
    head=dict(type='mmtlalign.TLAlignLinearClsHead', in_channels=512),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=4),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4),
        ]
    ),
)

train_dataloader = dict(batch_size=128)

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
