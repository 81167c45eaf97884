# The same images, mixed in the same way, on the data set's own labels: neither
# maps nor a dense loss.
_base_ = './tokenlabel_lvvit-mini_1xb128_cifar10.py'

model = dict(head=dict(dense_weight=0.0, cls_target='ground_truth'))

train_pipeline = [
    step for step in _base_.train_pipeline if step.type != 'mmtlalign.LoadTokenLabels'
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
