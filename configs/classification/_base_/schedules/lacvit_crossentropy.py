# The cross-entropy baseline of LaCViT's code.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))

# 8e-5 = 0.01 * 0.2^3
param_scheduler = dict(type='CosineAnnealingLR', eta_min=8e-5, by_epoch=True)

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=128)
