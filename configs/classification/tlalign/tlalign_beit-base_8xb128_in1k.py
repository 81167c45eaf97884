# BEiT-B's network from random weights, without its pretraining: TL-Align's
# recipe for DeiT-B, relative position biases, layer scale, and the mean over
# patches for the head.
_base_ = './tlalign_deit-base_8xb128_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='BEiTViT',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
    ),
    head=dict(type='mmtlalign.TLAlignLinearClsHead'),
)
