# 320,000 images as in 16 epochs of 20,000, but each is seen 32 times, so that
# regularization matters.
_base_ = '../tlalign/tlalign_deit-mini_1xb128_cifar10.py'

train_dataloader = dict(dataset=dict(num_samples=10000))
train_cfg = dict(max_epochs=32, val_interval=4)
