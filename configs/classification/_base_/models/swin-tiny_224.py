# Swin-T with aligned labels. `train_cfg` is the host's recipe with CutMix on
# the grid of patches: one of Mixup and CutMix, evenly, for every batch.
_base_ = 'mmpretrain::_base_/models/swin_transformer/tiny_224.py'

model = dict(
    type='mmtlalign.TLAlignClassifier',
    head=dict(type='mmtlalign.TLAlignLinearClsHead'),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=4),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4),
        ]
    ),
)
