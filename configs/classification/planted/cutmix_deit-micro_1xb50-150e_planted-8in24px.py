# Digits of 8 px in place of 12, the regime that the second study confirms.
_base_ = './cutmix_deit-micro_1xb50-150e_planted-24px.py'

train_dataloader = dict(dataset=dict(object_size=8))
val_dataloader = dict(dataset=dict(object_size=8))
test_dataloader = dict(dataset=dict(object_size=8))
