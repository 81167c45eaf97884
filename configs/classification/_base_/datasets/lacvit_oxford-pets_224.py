_base_ = './lacvit_224.py'

num_classes = 37
data = dict(type='OxfordIIITPet', data_root='data/oxford_pets')
train_dataloader = dict(dataset=dict(**data, split='trainval'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
