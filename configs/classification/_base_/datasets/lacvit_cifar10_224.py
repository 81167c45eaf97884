_base_ = './lacvit_cifar_224.py'

num_classes = 10
data = dict(type='CIFAR10', data_root='data/cifar10')
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
