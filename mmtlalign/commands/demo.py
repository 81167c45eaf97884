"""Classify, detect or segment: draw what a model sees in images.

mmtlalign demo IMAGE.jpg NAME_OF_THE_ZOO
mmtlalign demo IMAGE.jpg CONFIG CHECKPOINT
mmtlalign demo FOLDER CONFIG CHECKPOINT --out-dir pictures
mmtlalign demo 'FOLDER/*/a*.png' CONFIG CHECKPOINT
mmtlalign demo --web                                a page to play with instead
"""

import argparse
import glob
import os.path as osp
import sys
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import cv2
import mmcv
from rich.progress import track

from mmtlalign.apis import build_inference
from mmtlalign.apis.zoo import find_weights
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.commands.checks import check_heads, check_trained_classes, classes_in, stated_in
from mmtlalign.commands.command_line import (
    add_cfg_options,
    add_trust_argument,
    check_file,
    make_out_folder,
    new_parser,
    number,
)
from mmtlalign.commands.unread_keys import merge_options
from mmtlalign.errors import UserError, in_one_line, warn
from mmtlalign.host_check import check_host
from mmtlalign.resources import open_config

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('image', help='a file, a folder, or a quoted pattern with * or ?')
    parser.add_argument(
        'config', help='path, or name of one that comes along; tells what the model does'
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path or URL; it must fit (default: the published weights of the name)',
    )
    parser.add_argument(
        '--out-dir', default='work_dirs/demo', help='folder of the pictures (default: %(default)s)'
    )
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.add_argument(
        '--score-thr',
        type=number(float, 0, 1),
        default=0.3,
        help='least score of an object (default: %(default)s)',
    )
    parser.add_argument(
        '--web', action='store_true', help='a page to play with; --web --help tells more'
    )
    add_trust_argument(parser)
    add_cfg_options(parser)
    return parser


def find_images(where: str) -> list[str]:
    """Paths of the image, of those in a folder, or that fit a pattern."""
    if osp.isfile(where):
        return [where]
    if osp.isdir(where):
        files = glob.glob(osp.join(glob.escape(where), '*'))
        found = sorted(path for path in files if path.lower().endswith(SUFFIXES))
    else:
        found = sorted(filter(osp.isfile, glob.glob(where, recursive=True)))
    if not found:
        raise UserError(
            f"'{where}' is no image, no folder with images in it "
            f'({", ".join(SUFFIXES)}), and fits no file as a pattern'
        )
    return found


def name_pictures(paths: list[str], folder: str) -> list[str]:
    """``folder/NAME.png`` for each image; where that is taken, ``NAME.2.png`` and so on."""
    names: list[str] = []
    for path in paths:
        stem = Path(path).stem
        numbered = (f'{stem}.{number}.png' for number in count(2))
        names.append(next(name for name in chain([f'{stem}.png'], numbered) if name not in names))
    return [str(Path(folder) / name) for name in names]


def is_readable(path: str) -> bool:
    """Whether OpenCV can decode it; one that it cannot is warned of."""
    with suppress(OSError, ValueError, cv2.error):  # empty, or far too large
        if mmcv.imread(path) is not None:
            return True
    warn(f"'{path}' cannot be read as an image, and is left out")
    return False


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if '--web' in argv:
        from mmtlalign.commands import web_demo  # gradio takes a while

        web_demo.main(argv)
        return
    args = make_parser().parse_args(argv)
    cfg = open_config(args.config, args.trust)
    checkpoint = args.checkpoint or find_weights(Path(cfg.filename).stem)
    check_file(checkpoint, 'checkpoint')
    paths = find_images(args.image)
    make_out_folder(args.out_dir, '--out-dir')
    merge_options(cfg, args.cfg_options, args.allow_unread)
    check_host(cfg)
    trained = classes_in(load_checkpoint_safely(checkpoint, args.trust))
    if trained is not None:
        check_heads(cfg, trained, f"checkpoint '{checkpoint}'")
        check_trained_classes(trained, checkpoint, *stated_in(cfg))
    model = build_inference(cfg, checkpoint, args.device, args.score_thr, args.trust)
    cv2.setLogLevel(0)  # the warning below is enough
    pictures, seen = name_pictures(paths, args.out_dir), 0
    for path, picture in track(list(zip(paths, pictures)), 'Predicting', disable=len(paths) == 1):
        if is_readable(path):
            drawn, words = model(path)
            mmcv.imwrite(drawn[..., ::-1], picture)
            print(in_one_line(f'{path}: {words}; picture: {picture}'))
            seen += 1
    if not seen:
        raise UserError(f"none of the {len(paths)} files of '{args.image}' can be read as an image")
    print(
        f'{seen} of {len(paths)} images, pictures in {args.out_dir}; '
        f'{len(paths) - seen} could not be read'
    )
