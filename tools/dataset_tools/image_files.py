"""What the tools for data sets share: an option, images, and ends in one line."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from mmtlalign.commands.command_line import new_parser
from mmtlalign.errors import UserError


def make_parser(about: str, out: str) -> argparse.ArgumentParser:
    """What it is about, and where to write."""
    parser = new_parser(about)
    parser.add_argument(
        '--out', type=Path, default=Path(out), help=f'where to write (default: {out})'
    )
    return parser


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """What ``cv2.imread`` gives; a UserError if the file is missing or damaged."""
    if not path.is_file():
        raise UserError(f"'{path}' does not exist; get the data set again")
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:  # a header that promises too many pixels
        image = None
    if image is None:
        raise UserError(f"'{path}' is no intact image; get the data set again")
    return image


def write_image(path: Path, image: np.ndarray, jpeg_quality: int = 95) -> None:
    """Write BGR or grey, uint8, in the format of the suffix; a UserError if that fails."""
    params = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == '.jpg' else []
    if not cv2.imwrite(str(path), image, params):
        raise UserError(
            f"'{path}' cannot be written; make room on the disk or write elsewhere with --out"
        )
