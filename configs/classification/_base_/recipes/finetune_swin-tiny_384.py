# Windows of 12 fit 384 px, as those of 7 fit 224 px. The tables of position
# biases must be resized first, by the converter: see finetune/README.md.
_base_ = './finetune_swin-tiny_224.py'

model = dict(
    backbone=dict(
        img_size=384,
        window_size=12,
        init_cfg=dict(checkpoint='checkpoints/tlalign_swin-tiny_16xb64_in1k_w12.pth'),
    )
)
