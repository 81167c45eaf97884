_base_ = './finetune_cifar_384.py'

num_classes = 100
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='CIFAR100', data_root='data/cifar100')
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
