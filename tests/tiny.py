"""A training that takes a second, and a way to run the tools on it."""

import os
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# Everything that draws is in it: numpy and torch transforms, mixing, dropout
# and drop path, a shuffled order.
CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3)
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                  feedforward_channels=32),
        img_size=16, patch_size=4, drop_rate=.1, drop_path_rate=.3),
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead', num_classes=3,
        in_channels=16,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=.1,
                  mode='original')),
    train_cfg=dict(
        augments=[dict(type='mmtlalign.TokenCutMix', patch_size=4)]))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type='CustomDataset', data_root='images',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=16, padding=2),
            dict(type='NumpyToPIL', to_rgb=True),
            dict(type='torchvision/ColorJitter', brightness=.5),
            dict(type='PILToNumpy', to_bgr=True),
            dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type='CustomDataset', data_root='images',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=.05),
    paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = dict(type='CosineAnnealingLR', T_max=3)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
custom_hooks = [dict(type='mmtlalign.ResumeRandomState')]
randomness = dict(seed=3)
"""


def write_project(folder: Path, extra: str = '') -> Path:
    """Write 12 random images of 3 classes and the config; return its path."""
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(folder / f'images/class{i % 3}/{i}.png'))
    config = folder / 'tiny.py'
    config.write_text(CONFIG + extra)
    return config


def run(command: list, folder: Path, **env: str):
    """Run a command in a folder; return its finished process, with text."""
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}',
        **env,
    }
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True
    )


def run_tool(name: str, *arguments, folder: Path, **env: str):
    """Run ``tools/<name>`` in a folder."""
    return run([sys.executable, ROOT / 'tools' / name, *arguments], folder, **env)
