_base_ = './finetune_cifar_384.py'

num_classes = 10
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='CIFAR10', data_root='data/cifar10')
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
