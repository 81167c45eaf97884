"""Export a classifier, a segmenter or a backbone, to run without this code.

    mmtlalign export CONFIG CHECKPOINT --shape 224 224 --out a.onnx
    mmtlalign export CONFIG CHECKPOINT --dynamic --out a.pt2

The suffix chooses between ONNX and torch.export. The file takes images,
float32 (N, 3, H, W), RGB, 0 to 255: it normalizes them itself. It is loaded
again and kept only if it computes what the model computes. docs/export.md
says more.
"""

import argparse
from pathlib import Path

from mmtlalign.apis import get_model
from mmtlalign.apis.exporting import check_packages, export
from mmtlalign.commands.command_line import (
    add_trust_argument,
    ending,
    make_folder_of,
    new_parser,
    number,
)


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that comes along')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        default=True,
        help="path or URL (default: what is published for the name, or the config's load_from)",
    )
    parser.add_argument(
        '--out',
        required=True,
        type=ending('.onnx', '.pt2'),
        metavar='FILE.{onnx,pt2}',
        help='file to write',
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument(
        '--shape',
        nargs=2,
        type=number(int, 1),
        metavar=('H', 'W'),
        help='size of the images in pixels',
    )
    size.add_argument(
        '--dynamic', action='store_true', help='any number and size of images (plain ViTs)'
    )
    parser.add_argument(
        '--batch',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='number of images, with --shape (default: 1)',
    )
    parser.add_argument(
        '--backbone-only', action='store_true', help='export what the backbone puts out'
    )
    add_trust_argument(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.dynamic and args.batch != 1:
        parser.error('--batch goes with --shape; --dynamic takes any number')
    out = Path(args.out)
    if out.suffix == '.onnx':
        check_packages()
    make_folder_of(out)
    model = get_model(args.config, args.checkpoint, trust=args.trust)
    names, difference = export(
        model,
        out,
        (args.batch, 3, *args.shape) if args.shape else None,
        name=Path(args.config).stem,
        backbone_only=args.backbone_only,
    )
    print(
        f'{out}  {out.stat().st_size / 2**20:.1f} MiB, puts out {", ".join(names)}; '
        f'differs from the model by {difference:.1e} of the largest value'
    )
