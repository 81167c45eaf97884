# TokenMix: each label weighs what is left to see of its image's map. The two
# weights need not sum to one, hence binary cross entropy.
_base_ = [
    '../_base_/models/deit-mini_32.py',
    '../_base_/datasets/cifar10_token-labels_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/token_label_runtime.py',
]

data_preprocessor = dict(type='mmtlalign.TokenLabelDataPreprocessor')

model = dict(
    head=dict(loss=dict(use_sigmoid=True, loss_weight=1 / 10)),  # the mean
    target=dict(type='mmtlalign.TokenMixTarget'),
    train_cfg=dict(augments=[dict(type='mmtlalign.TokenMix', ratio=4 / 7, patch_size=4)]),
)

default_hooks = dict(logger=dict(interval=20))
