"""Draw how the labels of two mixed images move through a backbone.

    mmtlalign visualize CONFIG CHECKPOINT \
        --img A.jpg B.jpg --out alignment.png
"""

import argparse
import logging
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmpretrain.models import BaseClassifier

from mmtlalign.apis import get_model
from mmtlalign.apis.mixing import MixTrace, load_images, trace_mix
from mmtlalign.commands.command_line import (
    add_trust_argument,
    check_file,
    make_folder_of_picture,
    new_parser,
)
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


def draw_mix(found: MixTrace, title: str) -> Figure:
    """The picture of a mix and its labels, by TL-Align."""
    shares, outputs = found.share_maps['tlalign'], found.output_shares['tlalign']
    return draw_alignment(found.images, found.mixed, shares, outputs, title)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    logging.disable(logging.INFO)  # how each parameter was initialised
    for path in args.img:
        check_file(path, 'image')
    if args.checkpoint is not None:
        check_file(args.checkpoint, 'checkpoint')
    make_folder_of_picture(args.out)
    cfg = open_config(args.config, args.trust)
    check_class(cfg, BaseClassifier)
    model = get_model(cfg, args.checkpoint or False, trust=args.trust)
    if args.checkpoint is None:
        model.init_weights()
    found = trace_mix(model, load_images(cfg, args.img), args.box)
    weights = Path(args.checkpoint).name if args.checkpoint else 'random weights'
    outputs = found.output_shares['tlalign']
    figure = draw_mix(found, f'{Path(args.config).stem}, {weights}')
    with written_beside(args.out) as beside:
        figure.savefig(beside, dpi=110)
    print(
        f'area share {outputs[0]:.4f}, aligned share '
        f'{np.round(outputs[-1], 4):.4f}; picture: {args.out}'
    )
