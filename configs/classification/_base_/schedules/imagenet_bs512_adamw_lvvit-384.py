# Fine-tuning of LV-ViT at a higher resolution: a small, constant rate and
# next to no decay, at batch 512. The published command names no number of
# epochs; 30 are our choice.
_base_ = './imagenet_bs1024_adamw_deit.py'

optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))

param_scheduler = [
    # from 1e-6
    dict(type='LinearLR', start_factor=0.2, by_epoch=True, end=5, convert_to_iter_based=True)
]

train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
