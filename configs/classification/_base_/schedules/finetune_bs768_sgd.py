# How DeiT's authors fine-tune on CIFAR-10 and Stanford Cars (Touvron in
# github.com/facebookresearch/deit/issues/45): SGD for 1000 epochs at batch
# 768, no stochastic depth, all else as in pretraining.
_base_ = './adamw.py'

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
)

param_scheduler = [
    # from 1e-6
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5),
]

train_cfg = dict(by_epoch=True, max_epochs=1000, val_interval=10)
auto_scale_lr = dict(base_batch_size=768)
