"""Small backbones, images and shares with the same values everywhere."""

import mmpretrain.models
import numpy as np
import torch

VIT = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
SWIN = dict(embed_dims=16, depths=[2, 2], num_heads=[2, 4])


def fill(backbone, seed=0):
    """Give every parameter a value that no version of torch can change.

    numpy's ``RandomState`` is frozen, torch's generators are not. Attention
    is made sharp (gain 2 on queries and keys), as labels that hardly move
    would hide errors.
    """
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            value = random.standard_normal(tuple(parameter.shape))
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                value *= (2.0 if 'qkv' in name else 1.0) / fan_in**0.5
            elif name.endswith('weight'):
                value = 1 + 0.1 * value
            parameter.copy_(torch.from_numpy(value))
    return backbone


def build(type, seed=0, **cfg):
    """A backbone of mmpretrain by class name, filled with fixed values."""
    return fill(getattr(mmpretrain.models, type)(**cfg), seed)


def vit(type='VisionTransformer', seed=0, arch=None, **cfg):
    """A ViT of 3 layers, 32 channels and 4 x 4 patches of 4 pixels."""
    cfg = {'img_size': 16, 'patch_size': 4, **cfg}
    return build(type, seed, arch={**VIT, **(arch or {})}, **cfg)


def swin(type='SwinTransformer', seed=0, arch=None, **cfg):
    """A Swin of 2 stages, 16 channels, patch 2 and windows of 4 x 4."""
    arch = {**SWIN, **(arch or {})}
    if type == 'SwinTransformerV2':
        arch = {'extra_norm_every_n_blocks': 0, **arch}
    last = len(arch['depths']) - 1
    cfg = (
        dict(img_size=16, patch_size=2, window_size=4, drop_path_rate=0.0, out_indices=(last,))
        | cfg
    )
    return build(type, seed, arch=arch, **cfg)


def lvvit(seed=0, **cfg):
    """An LV-ViT like :func:`vit`, whose branches are divided by two."""
    from mmtlalign.models import LVViT

    arch = dict(VIT, stem_channels=8, skip_lam=2.0)
    backbone = fill(LVViT(**dict(arch=arch, img_size=16, patch_size=4) | cfg), seed)
    backbone.eval()
    return backbone


def timm_vit(name='VisionTransformer', seed=0, fused=True, with_cp=False, **cfg):
    """The same of timm."""
    from timm.models import deit, vision_transformer

    known = {**vars(vision_transformer), **vars(deit)}
    small = dict(img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=2, num_classes=5)
    return _of_timm(known[name](**(small | cfg)), seed, fused, with_cp)


def timm_swin(seed=0, fused=False, with_cp=False, **cfg):
    """A Swin of timm like :func:`swin`."""
    from timm.models.swin_transformer import SwinTransformer

    stages = dict(depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0)
    small = dict(img_size=16, patch_size=2, embed_dim=16, num_classes=5, **stages)
    return _of_timm(SwinTransformer(**(small | cfg)), seed, fused, with_cp)


def _of_timm(backbone, seed, fused, with_cp):
    for module in backbone.modules():
        if hasattr(module, 'fused_attn'):
            module.fused_attn = fused
    backbone.set_grad_checkpointing(with_cp)
    return fill(backbone, seed)


def torchvision_vit(seed=0, **cfg):
    """The ViT of torchvision with 3 blocks of 32 channels."""
    from torchvision.models import VisionTransformer

    sizes = dict(image_size=16, patch_size=4, num_layers=3, num_heads=2)
    small = dict(hidden_dim=32, mlp_dim=64, num_classes=5, **sizes)
    return fill(VisionTransformer(**(small | cfg)), seed)


def case(type='VisionTransformer', batch=2, **cfg):
    """A ViT or Swin by class name, images, and shares on its grid."""
    make, grid = (swin, 8) if type.startswith('Swin') else (vit, 4)
    return make(type, **cfg), images(batch), shares(batch, grid)


def images(batch=2, size=16, seed=1):
    """Images (batch, 3, H, W); ``size`` is H = W or (H, W)."""
    height, width = (size, size) if isinstance(size, int) else size
    values = np.random.RandomState(seed).standard_normal((batch, 3, height, width))
    return torch.from_numpy(values).float()


def shares(batch=2, grid=4, seed=2):
    """Shares (batch, rows, cols), uniform in [0, 1], no two alike."""
    rows, cols = (grid, grid) if isinstance(grid, int) else grid
    values = np.random.RandomState(seed).random_sample((batch, rows, cols))
    return torch.from_numpy(values).float()


def class_labels(batch=2, num_classes=5, seed=3):
    """Soft labels of the images themselves and of their partners."""
    logits = np.random.RandomState(seed).standard_normal((2, batch, num_classes))
    own, partner = torch.from_numpy(2 * logits).softmax(-1)
    return own, partner


def to_labels(share, own, partner):
    """Labels (B, ..., K) of shares (B, ...) between two labels (B, K)."""
    shape = own.shape[:1] + (1,) * (share.ndim - 1) + own.shape[1:]
    share = share.double()[..., None]
    return share * own.view(shape) + (1 - share) * partner.view(shape)
