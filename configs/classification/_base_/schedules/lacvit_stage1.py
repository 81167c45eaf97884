# Stage 1 of LaCViT's code, but for three things. It accumulates the gradients
# of 32 batches of 128, each contrasted within itself and on its own GPU; here
# eight GPUs contrast one batch of 1024, and nothing is accumulated. Its loss
# is 1.43 times as large (temperature / 0.07), which base_temperature=0.07
# would repeat. And its cosine ends at 1e-15 instead of 0.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=1e-4))

param_scheduler = dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True)

train_cfg = dict(by_epoch=True, max_epochs=500, val_interval=50)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=1024)
