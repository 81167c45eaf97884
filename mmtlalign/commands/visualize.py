"""Draw how the labels of two mixed images move through a backbone.

    mmtlalign visualize CONFIG CHECKPOINT \
        --img A.jpg B.jpg --out alignment.png
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.models import BaseClassifier
from mmpretrain.registry import TRANSFORMS

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import for_files, trained_order
from mmtlalign.commands.command_line import (
    add_trust_argument,
    check_file,
    make_folder_of_picture,
    new_parser,
)
from mmtlalign.errors import UserError
from mmtlalign.output_files import written_beside
from mmtlalign.resources import check_class, open_config
from mmtlalign.visualization import draw_alignment


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a classification config')
    parser.add_argument('checkpoint', nargs='?', help='left out: random weights')
    parser.add_argument('--img', nargs=2, required=True, metavar=('A', 'B'))
    parser.add_argument(
        '--box',
        nargs=4,
        type=int,
        metavar=('YL', 'YU', 'XL', 'XU'),
        help='patches of B in A, half-open; default: the middle half of both sides',
    )
    parser.add_argument('--out', default='alignment.png')
    add_trust_argument(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What is given, if it fits together."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.out.endswith(('.jpg', '.pdf', '.png', '.svg')):
        parser.error(f"--out '{args.out}' must end in .jpg, .pdf, .png or .svg")
    return args


def build_model(cfg, checkpoint, trust):
    """The config's classifier, with a checkpoint's weights if one is given."""
    model = get_model(cfg, False if checkpoint is None else checkpoint, trust=trust)
    if checkpoint is None:
        model.init_weights()
    return model


def load_images(cfg, paths):
    """Both images through the config's test pipeline, as a batch."""
    pipeline = Compose(
        [TRANSFORMS.build(step) for step in for_files(cfg).test_dataloader.dataset.pipeline]
    )
    samples = [pipeline(dict(img_path=path, gt_label=0)) for path in paths]
    shapes = [tuple(sample['inputs'].shape) for sample in samples]
    if shapes[0] != shapes[1]:
        raise UserError(
            f'--img: {paths[0]} comes out of the test pipeline as {shapes[0]} '
            f'and {paths[1]} as {shapes[1]}; give images of one size.'
        )
    return pseudo_collate(samples)


def paste(images, grid, box):
    """Box of image 1 into image 0 and back; shares of the patches."""
    yl, yu, xl, xu = box or (
        grid[0] // 4,
        grid[0] - grid[0] // 4,
        grid[1] // 4,
        grid[1] - grid[1] // 4,
    )
    if not (0 <= yl < yu <= grid[0] and 0 <= xl < xu <= grid[1]):
        raise UserError(
            f'--box {yl} {yu} {xl} {xu} does not lie on the grid of {grid[0]} x {grid[1]} patches.'
        )
    share = torch.ones(2, *grid)
    share[:, yl:yu, xl:xu] = 0
    size = images.shape[-2:]
    own = torch.nn.functional.interpolate(share[:, None], size)
    return own * images + (1 - own) * images.flip(0), share


def trace(backbone, mixed, token_share):
    """Share maps and output shares of sample 0, input first."""
    tracer = LabelTrace(backbone, record=True)
    with torch.no_grad(), tracer(token_share):
        backbone(mixed)
    maps = [token_share[0].numpy()]
    outputs = [token_share[0].mean().item()]
    for share, (rows, cols) in zip(tracer.block_shares, tracer.block_grids):
        outputs.append(tracer.read(share)[0].item())
        # extra tokens stand before the patches
        maps.append(share[0, -rows * cols :].reshape(rows, cols).numpy())
    return maps, outputs


def to_pictures(images, preprocessor, order):
    """Normalised images (B, 3, H, W), 'rgb' or 'bgr' before the preprocessor
    -> RGB (B, H, W, 3) in [0, 1]."""
    pixels = images * preprocessor.std + preprocessor.mean
    if (order == 'rgb') == preprocessor.to_rgb:  # swapped once, or never
        pixels = pixels.flip(1)
    return (pixels / 255).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    logging.disable(logging.INFO)  # how each parameter was initialised
    for path in args.img:
        check_file(path, 'image')
    if args.checkpoint is not None:
        check_file(args.checkpoint, 'checkpoint')
    make_folder_of_picture(args.out)
    cfg = open_config(args.config, args.trust)
    check_class(cfg, BaseClassifier)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = build_model(cfg, args.checkpoint, args.trust)
    data = load_images(cfg, args.img)
    images = model.data_preprocessor(data)['inputs']
    grid = LabelTrace(model.backbone).grid_of(images[:1])
    mixed, token_share = paste(images, grid, args.box)
    maps, outputs = trace(model.backbone, mixed, token_share)
    weights = Path(args.checkpoint).name if args.checkpoint else ('random weights')
    preprocessor, order = model.data_preprocessor, trained_order(cfg)
    figure = draw_alignment(
        to_pictures(images, preprocessor, order),
        to_pictures(mixed, preprocessor, order)[0],
        maps,
        outputs,
        f'{Path(args.config).stem}, {weights}',
    )
    with written_beside(args.out) as beside:
        figure.savefig(beside, dpi=110)
    print(
        f'area share {outputs[0]:.4f}, aligned share '
        f'{np.round(outputs[-1], 4):.4f}; picture: {args.out}'
    )
