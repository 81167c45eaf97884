# Stage 2: the encoder of stage 1, frozen in all its 12 blocks; with
# frozen_stages=-1 it is fine-tuned instead.
_base_ = './crossentropy_deit-small.py'

model = dict(backbone=dict(frozen_stages=12))
