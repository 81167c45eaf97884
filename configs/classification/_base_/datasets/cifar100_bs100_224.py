# CIFAR-100 in its own format, treated as CIFAR-10 is
_base_ = './cifar10_bs100_224.py'

num_classes = 100
data_preprocessor = dict(
    num_classes=num_classes, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)

train_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
val_dataloader = train_dataloader
test_dataloader = train_dataloader
