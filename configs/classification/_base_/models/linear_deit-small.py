# Stage 2: the encoder of stage 1, frozen in all its 12 blocks and without drop
# path, which would disturb what is frozen: the host trains in train mode. To
# fine-tune it instead: frozen_stages=-1 and drop_path_rate=0.1.
_base_ = './crossentropy_deit-small.py'

model = dict(backbone=dict(frozen_stages=12, drop_path_rate=0.0))
