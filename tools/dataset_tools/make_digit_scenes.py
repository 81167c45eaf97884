"""Compose scenes of handwritten digits for detection and segmentation.

Every scene is a grey picture of 128x128 px: a smooth, noisy background with
one to eight digits of 24 to 40 px that do not overlap. Training scenes show
scikit-learn's training digits, validation scenes only the held-out ones (the
splits of ``mmtlalign.Digits``). The same seed makes the same files:

    OUT/images/{train,val}/0000.png       the scenes
    OUT/annotations/{train,val}/0000.png  class of every pixel: 0 background,
                                          1 to 10 the digits 0 to 9
    OUT/annotations/instances_{train,val}.json  boxes and masks, as in COCO

An annotation's key ``digit`` is the index of its digit in the split.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from image_files import make_parser, write_image

from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.commands.start_up_noise import silence_known_noise
from mmtlalign.errors import UserError, one_line_errors

silence_known_noise()  # before the hosts are imported, which make it

from mmtlalign.datasets import Digits  # noqa: E402

SIZE = 128  # px, of a scene
MAX_DIGITS = 8
DIGIT_SIZES = (24, 40)  # px, smallest and largest


def background(rng: np.random.Generator) -> np.ndarray:
    """A dark, cloudy picture with noise, float (SIZE, SIZE) in [0, 255]."""
    clouds = cv2.resize(rng.uniform(0, 90, (5, 5)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return np.clip(clouds + rng.normal(0, 8, (SIZE, SIZE)), 0, 255)


def free_place(taken: np.ndarray, size: int, rng: np.random.Generator):
    """Upper left corner (y, x) of a square of that edge in px; None if none is free.

    Args:
        taken (np.ndarray): Bool (SIZE, SIZE), where digits are already.
        size (int): Edge of the square.
        rng (np.random.Generator): Draws one of all free places.
    """
    # Sums over all squares at once: each is a difference of four corners.
    sums = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    free = np.argwhere(inside == 0)
    return tuple(rng.choice(free).tolist()) if len(free) else None


def compose(digits: Digits, rng: np.random.Generator):
    """Draw one scene.

    Returns:
        tuple: The picture, uint8 (SIZE, SIZE); and one dict per digit with
        its ``digit`` (index), ``label`` (0 to 9) and ``mask``, bool (SIZE, SIZE).
    """
    scene = background(rng)
    taken = np.zeros((SIZE, SIZE), bool)
    instances = []
    for index in rng.choice(len(digits), rng.integers(1, MAX_DIGITS + 1), replace=False).tolist():
        size = int(rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1))
        place = free_place(taken, size, rng)
        if place is None:
            continue
        info = digits.get_data_info(index)
        # How much of every pixel is ink
        ink = cv2.resize(info['img'][..., 0], (size, size), interpolation=cv2.INTER_LINEAR) / 255
        area = tuple(slice(start, start + size) for start in place)
        scene[area] += ink * (rng.uniform(150, 255) - scene[area])
        taken[area] = True
        mask = np.zeros((SIZE, SIZE), bool)
        mask[area] = ink > 0.4
        instances.append(dict(digit=index, label=info['gt_label'], mask=mask))
    return np.rint(scene).astype(np.uint8), instances


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths: columns first, zeros first."""
    flat = mask.ravel(order='F')
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return dict(size=list(mask.shape), counts=[0, *lengths] if flat[0] else lengths)


def coco_annotation(instance: dict, image_id: int, annotation_id: int) -> dict:
    """The COCO record of one digit; its box fits its mask tightly."""
    mask = instance['mask']
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    y, x = int(rows[0]), int(columns[0])
    return dict(
        id=annotation_id,
        image_id=image_id,
        category_id=instance['label'] + 1,
        iscrowd=0,
        bbox=[x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        area=int(mask.sum()),
        segmentation=run_lengths(mask),
        digit=instance['digit'],
    )


def write_split(out: Path, split: str, num_scenes: int, seed: int) -> int:
    """Write the scenes of one split; return how many digits they hold."""
    digits = Digits(split, pipeline=[])
    rng = np.random.default_rng([seed, Digits.SPLITS.index(split)])
    pictures, maps = (out / kind / split for kind in ('images', 'annotations'))
    for folder in (pictures, maps):
        make_out_folder(folder)
    images, annotations = [], []
    for i in range(num_scenes):
        scene, instances = compose(digits, rng)
        classes = np.zeros((SIZE, SIZE), np.uint8)
        for instance in instances:
            classes[instance['mask']] = instance['label'] + 1
            annotations.append(coco_annotation(instance, i, len(annotations) + 1))
        name = f'{i:04d}.png'
        write_image(pictures / name, scene)
        write_image(maps / name, classes)
        images.append(dict(id=i, file_name=name, width=SIZE, height=SIZE))
    categories = [dict(id=i + 1, name=str(i)) for i in range(10)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    (out / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco))
    return len(annotations)


def main() -> None:
    parser = make_parser(__doc__, 'data/digit_scenes')
    for name, default, what in (
        ('train', 600, 'number of training scenes'),
        ('val', 100, 'number of validation scenes'),
        ('seed', 0, 'seed of all draws'),
    ):
        parser.add_argument(
            f'--{name}', type=int, default=default, help=f'{what} (default: {default})'
        )
    args = parser.parse_args()
    counts = dict(train=args.train, val=args.val)
    for name, least in dict(train=1, val=1, seed=0).items():
        if getattr(args, name) < least:
            raise UserError(f'--{name} {getattr(args, name)} is below {least}')
    check_absent(args.out)
    make_out_folder(args.out.parent)
    # under another name until all is written
    with TemporaryDirectory(prefix=f'{args.out.name}-', dir=args.out.parent) as folder:
        made = Path(folder, 'scenes')
        for split, num_scenes in counts.items():
            num_digits = write_split(made, split, num_scenes, args.seed)
            print(f'{split}: {num_scenes} scenes with {num_digits} digits in {args.out}')
        made.rename(args.out)


if __name__ == '__main__':
    with one_line_errors('make_digit_scenes.py'):
        main()
