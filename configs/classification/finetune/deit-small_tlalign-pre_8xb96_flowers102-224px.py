_base_ = [
    '../_base_/models/deit-small_finetune_224.py',
    '../_base_/datasets/finetune_224.py',
    '../_base_/schedules/finetune_bs768_sgd.py',
    '../_base_/finetune_runtime.py'
]

data = dict(type='Flowers102', data_root='data/flowers102')

model = dict(head=dict(num_classes=102))
data_preprocessor = dict(num_classes=102)
train_dataloader = dict(dataset=dict(**data, split='trainval'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
