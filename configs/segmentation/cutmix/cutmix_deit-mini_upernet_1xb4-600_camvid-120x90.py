# Half of the batches are mixed: a box of patches, and of their labels.
_base_ = './none_deit-mini_upernet_1xb4-600_camvid-120x90.py'

model = dict(
    data_preprocessor=dict(
        type='mmtlalign.MixSegDataPreProcessor',
        batch_augments=dict(
            augments=[dict(type='mmtlalign.TokenCutMix', patch_size=4)], probs=[0.5]
        ),
    )
)
