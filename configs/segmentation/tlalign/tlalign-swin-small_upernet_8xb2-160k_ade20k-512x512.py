_base_ = './tlalign-swin-tiny_upernet_8xb2-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/tlalign_swin-small_16xb64_in1k/epoch_300.pth'
model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint=checkpoint)))
