_base_ = './lacvit_224.py'

num_classes = 200
data = dict(type='CUB', data_root='data/CUB_200_2011')
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
