# MixPro's mask in Swin's recipe, labelled by area, from
# `configs/swin/swin_tiny_patch4_window7_mask56_224_alpha1.yaml` of its code:
# cells of 56 px for half of the batches, Mixup and CutMix for a quarter each.
# Its labels by attention need a class token, which Swin has not.
_base_ = '../tlalign/cutmix_swin-tiny_16xb64_in1k.py'

model = dict(
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.MaskMix', alpha=1.0, cell_size=14, patch_size=4),
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=4),
            dict(type='mmtlalign.CutMix', alpha=1.0, patch_size=4),
        ],
        probs=[0.5, 0.25, 0.25],
    )
)
