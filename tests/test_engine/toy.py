"""A training of a linear layer, four steps an epoch."""

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmtlalign.engine  # noqa: F401

ITERS = 4  # an epoch
VIT = dict(
    type='mmpretrain.VisionTransformer',
    img_size=16,
    patch_size=4,
    arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16),
)
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    img_size=32,
    patch_size=2,
    window_size=4,
    out_indices=(2,),
    arch=dict(embed_dims=8, depths=[1, 2, 1], num_heads=[1, 2, 2]),
)


class Data(Dataset):
    def __len__(self):
        return 2 * ITERS

    def __getitem__(self, i):
        return dict(inputs=torch.tensor([1.0, -i / 4, i]) / 4, data_samples=None)


LOADER = dict(
    batch_size=2,
    num_workers=0,
    dataset=Data(),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)


class Model(BaseModel):
    """Its loss is what ``spoil`` makes of it, given the step."""

    def __init__(self, spoil=lambda step, loss: loss):
        super().__init__()
        self.linear, self.spoil, self.steps = nn.Linear(3, 1), spoil, 0
        self.register_buffer('mean', torch.zeros(3))

    def forward(self, inputs, data_samples, mode):
        if mode != 'loss':
            return [dict()]
        self.steps += 1
        loss = self.linear(torch.stack(inputs)).square().mean()
        return dict(loss=self.spoil(self.steps, loss))


def runner(folder, model, hooks=(), **more):
    """Three epochs, the last checkpoint kept; ``more`` are arguments of the runner."""
    arguments = dict(
        model=model,
        work_dir=str(folder),
        experiment_name=str(folder),
        train_dataloader=LOADER,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=2),
            checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
        ),
        custom_hooks=list(hooks),
        default_scope='mmengine',
    )
    return Runner(**{**arguments, **more})
