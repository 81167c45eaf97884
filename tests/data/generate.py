"""Write the golden cases of this folder: ``python -m tests.data.generate``.

A file holds the arguments of a stock backbone, the shares of the patches, two
labels per image, the token labels that the dense oracle moved in float64, and
the features. Weights and images are not stored: ``tests.test_alignment.toys``
draws them from a frozen generator.
"""

import json
from pathlib import Path

import numpy as np
import torch

from tests.oracle import dense_labels
from tests.test_alignment import toys

FOLDER = Path(__file__).parent

VIT = dict(
    arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64),
    img_size=16,
    patch_size=4,
)
# 18 x 26 pixels are 9 x 13 patches: neither 4 x 4 windows nor 2 x 2 merging
# divide them, and the last map (3 x 4) is smaller than a window
SWIN = dict(
    arch=dict(embed_dims=16, depths=[2, 2, 2], num_heads=[2, 4, 4]),
    img_size=18,
    patch_size=2,
    window_size=4,
    pad_small_map=True,
    drop_path_rate=0.0,
    out_indices=[0, 1, 2],
)

CASES = {
    'vit_cls_token': dict(VIT, type='VisionTransformer', size=[16, 16]),
    'vit_avg_featmap_without_cls_token': dict(
        VIT,
        type='VisionTransformer',
        size=[16, 24],
        img_size=[16, 24],
        with_cls_token=False,
        out_type='avg_featmap',
    ),
    'deit3': dict(VIT, type='DeiT3', size=[16, 24]),
    'distilled': dict(VIT, type='DistilledVisionTransformer', size=[16, 16]),
    'swin_padded': dict(SWIN, type='SwinTransformer', size=[18, 26]),
    'swin_v2_padded': dict(
        SWIN,
        type='SwinTransformerV2',
        size=[18, 26],
        window_size=[4, 3, 4],
        arch=dict(SWIN['arch'], extra_norm_every_n_blocks=2),
    ),
}


def build_case(config):
    """Backbone and images of a case, from its JSON-ready dict."""
    config = dict(config)
    size = config.pop('size')
    if isinstance(config['img_size'], list):
        config['img_size'] = tuple(config['img_size'])
    return toys.build(**config), toys.images(batch=3, size=size)


def compute(config):
    """All arrays of a case.

    Returns:
        dict[str, np.ndarray]: What is written to the file.
    """
    backbone, images = build_case(config)
    with torch.no_grad():
        _, grid = backbone.patch_embed(images)
        features = backbone.double()(images.double())
    backbone.float()
    own, partner = toys.class_labels(batch=3)
    share = toys.shares(batch=3, grid=tuple(grid))
    blocks, aligned = dense_labels(backbone, images, toys.to_labels(share, own, partner))
    features = features[0] if isinstance(features[0], tuple) else features
    arrays = dict(token_share=share, own=own, partner=partner, aligned_label=aligned)
    arrays.update({f'block_labels/{k}': block for k, block in enumerate(blocks)})
    arrays.update({f'features/{i}': feature for i, feature in enumerate(features)})
    arrays = {name: value.numpy().astype(np.float32) for name, value in arrays.items()}
    return dict(arrays, config=np.array(json.dumps(config)))


if __name__ == '__main__':
    for name, config in CASES.items():
        np.savez_compressed(FOLDER / f'{name}.npz', **compute(config))
