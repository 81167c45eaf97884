# Fine-tunes the weights trained at 224 px, both heads included; position
# embeddings are resized as they are loaded.
_base_ = [
    '../_base_/models/lvvit-small_224.py',
    '../_base_/datasets/imagenet_bs64_token-labels_384.py',
    '../_base_/schedules/imagenet_bs512_adamw_lvvit-384.py',
    '../_base_/token_label_runtime.py',
]

model = dict(backbone=dict(img_size=384))
load_from = 'work_dirs/tokenlabel_lvvit-small_8xb128_in1k/epoch_310.pth'

custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=8e-5, priority='ABOVE_NORMAL')]
