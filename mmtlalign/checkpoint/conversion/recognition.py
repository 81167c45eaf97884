"""Which family a file is of, by its keys."""

import re

from mmtlalign.errors import UserError

from .beit import BEiT
from .deit import DeiT
from .family import Family, State
from .lvvit import LVViTFamily
from .pvt import PVTv2
from .swin import Swin, SwinV2
from .twins import Twins

# Families that are not converted, and a key that only they have.
OTHERS = {
    'detector or segmenter': r'(rpn_head|bbox_head|roi_head|decode_head)\.',
    'ViT with registers': r'reg_token|register_tokens',
    'EVA-02': r'blocks\.0\.attn\.(q_proj|rope)',
    'ViT with gated feed-forward layers': r'blocks\.0\.mlp\.(w12|fc1_g|w1)\.',
    'CaiT': r'blocks_token_only\.',
    'XCiT': r'cls_attn_blocks\.',
    'DaViT': r'stages\.0\.blocks\.0\.0\.cpe1',
    'ConvNeXt': r'(downsample_layers\.0|stages\.0\.blocks\.0\.conv_dw)\.',
    'PVT v1': r'pos_embed1$',
    'MLP-Mixer': r'blocks\.0\.mlp_tokens\.',
    'ViT on a ResNet': r'patch_embed\.backbone\.',
    'ResNet': r'(backbone\.)?layer1\.0\.conv1\.',
    'CLIP': r'visual\.|vision_model\.',
    "ViT in transformers' layout": r'(\w+\.)?embeddings\.(cls_token|patch_embeddings)',
    "ViT in torchvision's layout": r'encoder\.layers\.encoder_layer_0\.',
}

# The first that recognises a file is taken: what LV-ViT and BEiT call their
# blocks, DeiT does too, and Swin v2 names its stages as Swin.
FAMILIES: tuple[Family, ...] = (LVViTFamily(), BEiT(), DeiT(), SwinV2(), Swin(), PVTv2(), Twins())


def recognise(state: State, path: str) -> tuple[Family, str]:
    """The family and the layout of a file's weights by key; the path is for messages.

    Raises:
        UserError: If there is none, naming what it is, as far as that is known.
    """
    names = ', '.join(family.name for family in FAMILIES)
    for name, mark in OTHERS.items():
        if any(map(re.compile(mark).match, state)):
            article = 'an' if name.startswith(('EVA', 'XCiT', 'MLP')) else 'a'
            raise UserError(f"'{path}' is {article} {name}; what is converted: {names}")
    for family in FAMILIES:
        if layout := family.recognise(state):
            return family, layout
    raise UserError(
        f"'{path}' is no {names} in a layout that is known: its first key is '{next(iter(state))}'"
    )
