"""Small backbones of timm and torchvision, filled like those of ``toys``."""

from tests.test_alignment import toys


def vit(name='VisionTransformer', fused=True, seed=0, with_cp=False, **cfg):
    """A ViT of 3 blocks, 32 channels and 4 x 4 patches of 4 pixels."""
    from timm.models import deit, vision_transformer

    known = {**vars(vision_transformer), **vars(deit)}
    small = dict(img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=2, num_classes=5)
    backbone = known[name](**(small | cfg))
    for block in backbone.blocks:
        block.attn.fused_attn = fused
    backbone.set_grad_checkpointing(with_cp)
    return toys.fill(backbone, seed)


def swin(fused=False, seed=0, with_cp=False, **cfg):
    """A Swin of 2 stages, 16 channels, patch 2 and windows of 4 x 4."""
    from timm.models.swin_transformer import SwinTransformer

    stages = dict(depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0)
    small = dict(img_size=16, patch_size=2, embed_dim=16, num_classes=5, **stages)
    backbone = SwinTransformer(**(small | cfg))
    for stage in backbone.layers:
        for block in stage.blocks:
            block.attn.fused_attn = fused
    backbone.set_grad_checkpointing(with_cp)
    return toys.fill(backbone, seed)


def torchvision_vit(seed=0, **cfg):
    """The ViT of torchvision with 3 blocks of 32 channels."""
    from torchvision.models import VisionTransformer

    sizes = dict(image_size=16, patch_size=4, num_layers=3, num_heads=2)
    small = dict(hidden_dim=32, mlp_dim=64, num_classes=5, **sizes)
    return toys.fill(VisionTransformer(**(small | cfg)), seed)
