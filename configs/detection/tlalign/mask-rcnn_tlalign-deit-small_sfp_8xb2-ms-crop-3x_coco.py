# ViTDet's neck and layer-wise decay (0.7 is its rate for 12 blocks) in Swin's
# 36 epochs, which is how supervised DeiTs are usually compared.
_base_ = [
    '../_base_/models/mask-rcnn_deit-small_sfp.py',
    '../_base_/datasets/coco_instance_ms-crop.py',
    '../_base_/schedules/adamw_3x.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(
    constructor='mmtlalign.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
