# TokenMix in Swin's recipe. The mask is drawn on 14x14 cells of 16 px, as for
# DeiT: Swin's own 4 px would make it finer, and neither the mask nor the maps
# ask for the network's grid. No code was published for Swin.
_base_ = [
    '../_base_/models/swin-tiny_224.py',
    '../_base_/datasets/imagenet_bs128_tokenmix_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/token_label_runtime.py',
]

model = dict(**_base_.tokenmix)

train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=64)
test_dataloader = val_dataloader

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
