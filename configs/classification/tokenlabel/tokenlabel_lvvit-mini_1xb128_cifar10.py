_base_ = [
    '../_base_/models/lvvit-mini_32.py',
    '../_base_/datasets/cifar10_token-labels_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/token_label_runtime.py',
]

# Six epochs, so that the annotator, its maps, this training and its baseline
# take less than 40 minutes of one CPU core together.
train_cfg = dict(max_epochs=6, val_interval=3)

default_hooks = dict(logger=dict(interval=20))
