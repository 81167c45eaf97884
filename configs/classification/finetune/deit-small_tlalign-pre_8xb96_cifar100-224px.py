_base_ = [
    '../_base_/models/deit-small_finetune_224.py',
    '../_base_/datasets/finetune_cifar_224.py',
    '../_base_/schedules/finetune_bs768_sgd.py',
    '../_base_/finetune_runtime.py'
]

data = dict(type='CIFAR100', data_root='data/cifar100')

model = dict(head=dict(num_classes=100))
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
