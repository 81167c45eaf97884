# TL-Align's own recipe, as its published code effectively runs it: three
# augmented copies of a third of the images an epoch, CutMix alone and on
# every step, boxes with even sides. It used mixed precision (`--amp`), and
# names a colour jitter of .4 that is inactive beside RandAugment in timm.
_base_ = [
    '../_base_/models/deit-small_224.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
    '../_base_/default_runtime.py',
]

model = dict(
    train_cfg=dict(
        augments=[dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=16, even_sides=True)]
    )
)

train_dataloader = dict(batch_size=128, sampler=dict(type='RepeatAugSampler', num_repeats=3))
