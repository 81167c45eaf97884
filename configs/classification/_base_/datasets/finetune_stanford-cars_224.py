_base_ = './finetune_224.py'

num_classes = 196
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='StanfordCars', data_root='data/stanford_cars')
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
