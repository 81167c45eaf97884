# 320,000 images as in 16 epochs of 20,000, but each is seen 64 times, so that
# regularization matters. In bfloat16, for time.
_base_ = '../tlalign/tlalign_swin-mini_1xb128_cifar10.py'

train_dataloader = dict(dataset=dict(num_samples=5000))
optim_wrapper = dict(type='mmtlalign.BFloat16OptimWrapper')
train_cfg = dict(max_epochs=64, val_interval=8)
