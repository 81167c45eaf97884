# 320,000 images as in 16 epochs of 20,000, but each is seen 128 times, so that
# regularization matters. In bfloat16, for time.
_base_ = './tlalign_swin-mini_1xb128_cifar10.py'

train_dataloader = dict(dataset=dict(num_samples=2500))
optim_wrapper = dict(type='mmtlalign.BFloat16OptimWrapper')
train_cfg = dict(max_epochs=128, val_interval=16)
