_base_ = [
    '../_base_/models/swin-tiny_finetune_224.py',
    '../_base_/datasets/finetune_cifar_224.py',
    '../_base_/schedules/finetune_bs768_sgd.py',
    '../_base_/finetune_runtime.py'
]

data = dict(type='CIFAR10', data_root='data/cifar10')

model = dict(head=dict(num_classes=10))
data_preprocessor = dict(num_classes=10)
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
