"""Write CIFAR-10 as folders of JPEG files, which the minis read.

    OUT/train/<class>/0000.jpg  5,000 of every class: all training images
    OUT/val/<class>/0000.jpg    500 of every class: half of the test images

Files are numbered inside a class, in the official order; of the test images
of a class the first half is taken. The other half is not written: it stays
out, as a test set on which nobody tuned. The figures of the model zoo were
measured on files of this layout and format. Which of each class's test images
those were is not recorded, so the figures repeat up to the choice of the
validation images.

The images are taken from the official Python archive
(``cifar-10-python.tar.gz``, packed or unpacked) in ``--archive-dir``; where
it is missing there, torchvision downloads it.
"""

from pathlib import Path

import numpy as np
from image_files import make_parser, write_image
from torchvision.datasets import CIFAR10

from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.errors import UserError, one_line_errors

JPEG_QUALITY = 75  # what the minis of the model zoo were trained on


def load(archive_dir: str, train: bool) -> CIFAR10:
    """The official images, after a check of the archive's sums."""
    try:
        return CIFAR10(archive_dir, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"'{archive_dir}' has no intact cifar-10-python.tar.gz, and it cannot be downloaded "
            f'({error}); put the archive there or name its folder with --archive-dir'
        ) from error


def write_images(dataset: CIFAR10, share: float, folder: Path) -> None:
    """Write the first images of every class, this share of them, into a folder each."""
    count = 0
    for label, name in enumerate(dataset.classes):
        make_out_folder(folder / name)
        images = dataset.data[np.array(dataset.targets) == label]
        images = images[: int(share * len(images))]
        for i, image in enumerate(images):
            write_image(folder / name / f'{i:04d}.jpg', image[..., ::-1], JPEG_QUALITY)
        count += len(images)
    print(f'{count} images in {folder}')


def main() -> None:
    parser = make_parser(__doc__, 'data/cifar10')
    parser.add_argument(
        '--archive-dir', default='data', help='folder of the official archive (default: data)'
    )
    args = parser.parse_args()
    for split in ('train', 'val'):
        check_absent(args.out / split)
    train = load(args.archive_dir, train=True)
    test = load(args.archive_dir, train=False)
    write_images(train, 1, args.out / 'train')
    write_images(test, 0.5, args.out / 'val')


if __name__ == '__main__':
    with one_line_errors('cifar10_to_folders.py'):
        main()
