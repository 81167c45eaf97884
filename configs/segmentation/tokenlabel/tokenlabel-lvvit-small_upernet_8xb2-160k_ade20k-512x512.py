# UPerNet on LV-ViT-S: the maps of four blocks, as published, through the
# pyramid that the DeiT configs use (the published one has layers of its own).
_base_ = [
    '../_base_/models/upernet_deit-small.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/160k_adamw.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'work_dirs/tokenlabel_lvvit-small_8xb128_in1k/epoch_310.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmtlalign.LVViT',
        arch='small',
        # The size of pretraining: position embeddings are loaded as they are,
        # and resized in every forward.
        img_size=224,
        drop_path_rate=0.1,
        # Only the last of the four maps would pass it.
        final_norm=False,
        out_type='featmap',
        out_indices=(6, 9, 12, 15),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    ),
    decode_head=dict(channels=256),
)
