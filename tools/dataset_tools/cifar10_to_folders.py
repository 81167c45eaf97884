"""Write CIFAR-10 as folders of PNG files, which the minis read.

    OUT/train/<class>/00000.png  the 50,000 official training images
    OUT/val/<class>/00000.png    the first half of the official test images

The other half of the test images is not written: it stays out, as a test set
on which nobody tuned. A file's number is that of its image in the official
order. The images are taken from the official Python archive
(``cifar-10-python.tar.gz``, packed or unpacked) in ``--archive-dir``; where
it is missing there, torchvision downloads it.
"""
import argparse
from pathlib import Path

import cv2
from torchvision.datasets import CIFAR10

from mmtlalign.utils import (
    UserError,
    check_absent,
    make_work_dir,
    one_line_errors,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--archive-dir', default='data',
        help='folder of the official archive (default: data)')
    parser.add_argument('--out', type=Path, default=Path('data/cifar10'),
                        help='folder to write (default: data/cifar10)')
    return parser.parse_args()


def load(archive_dir: str, train: bool) -> CIFAR10:
    """The official images, after a check of the archive's sums."""
    try:
        return CIFAR10(archive_dir, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"'{archive_dir}' has no intact cifar-10-python.tar.gz, and it "
            f'cannot be downloaded ({error}); put the archive there or name '
            'its folder with --archive-dir') from error


def write_images(dataset: CIFAR10, num_images: int, folder: Path) -> None:
    """Write the first images of a set into one folder per class.

    Args:
        dataset (CIFAR10): With ``data``, uint8 RGB (N, 32, 32, 3),
            ``targets`` and ``classes``.
        num_images (int): How many to write, from the first.
        folder (Path): Where the class folders are made.
    """
    for name in dataset.classes:
        make_work_dir(str(folder / name))
    for i in range(num_images):
        path = folder / dataset.classes[dataset.targets[i]] / f'{i:05d}.png'
        cv2.imwrite(str(path), dataset.data[i][..., ::-1])
    print(f'{num_images} images in {folder}')


def main() -> None:
    args = parse_args()
    for split in ('train', 'val'):
        check_absent(args.out / split)
    train = load(args.archive_dir, train=True)
    test = load(args.archive_dir, train=False)
    write_images(train, len(train.data), args.out / 'train')
    write_images(test, len(test.data) // 2, args.out / 'val')


if __name__ == '__main__':
    with one_line_errors('cifar10_to_folders.py'):
        main()
