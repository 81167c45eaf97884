# Position embeddings are resized by the backbone as it loads them.
_base_ = './finetune_deit-small_224.py'

model = dict(backbone=dict(img_size=384))
