_base_ = './finetune_224.py'

num_classes = 102
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='Flowers102', data_root='data/flowers102')
train_dataloader = dict(dataset=dict(**data, split='trainval'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
