# The same boxes; labels follow the shares of the backbone's tokens.
_base_ = './cutmix_swin-mini_upernet_1xb4-600_camvid-240x180.py'

model = dict(
    type='mmtlalign.TLAlignEncoderDecoder', target=dict(type='mmtlalign.AlignedTokenTarget')
)
