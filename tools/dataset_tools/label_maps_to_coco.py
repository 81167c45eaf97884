"""List the objects in label maps, with masks, in a file as COCO's.

    python tools/dataset_tools/label_maps_to_coco.py data/camvid/images/train \\
        data/camvid/annotations/train --classes car=8 pedestrian=9 bicyclist=10 \\
        --out data/camvid/objects_train.json

    python tools/dataset_tools/label_maps_to_coco.py VOC2012/JPEGImages \\
        VOC2012/SegmentationClass --objects VOC2012/SegmentationObject \\
        --classes person=15 dog=12 cat=8 --out VOC2012/objects.json

What mmtlalign.ObjectCrops reads. Label maps are one-channel PNG files, named
like their images. An object is a region that hangs together, or with
--objects what has one number in a second map (0 and 255 are none).
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from image_files import make_parser
from PIL import Image

from mmtlalign.commands.checks.images import read_header
from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.commands.measuring import progress
from mmtlalign.datasets.orientation import annotated_view
from mmtlalign.errors import UserError, one_line_errors

SUFFIXES = ('.jpg', '.jpeg', '.png')
NONE = (0, 255)  # numbers of no object


def parse_class(text: str) -> tuple[str, int]:
    """NAME=VALUE, a number from 0 to 255."""
    name, _, value = text.partition('=')
    is_byte = value.isdecimal() and len(value) < 4 and int(value) <= 255
    if not name or ',' in name or not is_byte:
        raise UserError(
            f'--classes {text!r:.60} is not NAME=VALUE, VALUE being what the class has in '
            'the label maps, from 0 to 255: car=8'
        )
    return name, int(value)


def read_map(path: Path) -> np.ndarray:
    """(H, W), uint8; a UserError if it is no such map."""
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: every label map needs one") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"'{path}' is no intact image ({error}); get it again") from None
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise UserError(
            f"'{path}' has the shape {labels.shape} and type {labels.dtype}: a label map has one "
            'channel of 8 bits; one in colours will not do'
        )
    return labels


def find_image(folder: Path, stem: str, size: tuple[int, int]) -> str:
    """Name of the one image of a label map of some size, (width, height)."""
    names = [f'{stem}{suffix}' for suffix in SUFFIXES if (folder / f'{stem}{suffix}').is_file()]
    if len(names) != 1:
        raise UserError(
            f"'{folder}' has {len(names)} images {stem} ({', '.join(SUFFIXES)}), but one label map"
        )
    header = read_header(str(folder / names[0]))
    if annotated_view(*header, size) is None:
        raise UserError(
            f"'{folder / names[0]}' has {header.size} px in width and height, but its label map "
            f'{size}: they belong to other images'
        )
    return names[0]


def find_objects(shown: np.ndarray, numbers: np.ndarray | None) -> Iterator[np.ndarray]:
    """Masks (H, W), uint8, of the objects of a class, which is shown where ``shown`` is 1."""
    if numbers is None:
        _, numbers = cv2.connectedComponents(shown)
    for number in np.unique(numbers[shown > 0]):
        if number not in NONE or numbers.dtype != np.uint8:
            yield (shown & (numbers == number)).astype(np.uint8)


def describe(mask: np.ndarray) -> dict:
    """Run lengths, box and area of a mask, as COCO has them."""
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(mask))
    return dict(
        segmentation=dict(size=list(mask.shape), counts=runs['counts'].decode('ascii')),
        bbox=coco_mask.toBbox(runs).tolist(),
        area=int(mask.sum()),
        iscrowd=0,
    )


def read_numbers(path: Path, labels: np.ndarray) -> np.ndarray:
    """A map that numbers the objects of a label map."""
    numbers = read_map(path)
    if numbers.shape != labels.shape:
        raise UserError(
            f"'{path}' has {numbers.shape} pixels, but its label map {labels.shape}: they belong "
            'to other images'
        )
    return numbers


def convert(args, classes: dict[str, int]) -> dict:
    """All maps of a folder."""
    images, annotations, unnumbered = [], [], 0
    paths = sorted(args.labels.glob('*.png'))
    for image_id, path in enumerate(progress(paths, 'label maps', len(paths)), 1):
        labels, numbers = read_map(path), None
        if args.objects:
            numbers = read_numbers(args.objects / path.name, labels)
            unnumbered += (np.isin(labels, [*classes.values()]) & np.isin(numbers, NONE)).sum()
        height, width = labels.shape
        name = find_image(args.images, path.stem, (width, height))
        images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for category, value in enumerate(classes.values(), 1):
            for mask in find_objects((labels == value).astype(np.uint8), numbers):
                ids = dict(id=len(annotations) + 1, image_id=image_id, category_id=category)
                annotations.append(ids | describe(mask))
    if unnumbered:
        print(f'left out: {unnumbered} pixels of these classes that --objects gives no number')
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def check_folders(args) -> None:
    """Before anything is read."""
    check_absent(args.out)
    for folder in filter(None, (args.images, args.labels, args.objects)):
        if not folder.is_dir():
            raise UserError(f"'{folder}' is no folder")
    if args.objects and args.objects.resolve() == args.labels.resolve():
        raise UserError(f"--objects '{args.objects}' are the label maps: leave it out")
    if not any(args.labels.glob('*.png')):
        raise UserError(f"'{args.labels}' holds no label maps (*.png)")
    make_out_folder(args.out.parent)


def main() -> None:
    parser = make_parser(__doc__, 'objects.json')
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument('labels', type=Path, help='folder of their label maps')
    parser.add_argument('--objects', type=Path, help='folder of maps that number the objects')
    parser.add_argument('--classes', nargs='+', required=True, metavar='NAME=VALUE')
    args = parser.parse_args()
    pairs = list(map(parse_class, args.classes))
    classes = dict(pairs)
    if len({*classes.values()}) < len(pairs):
        raise UserError(f'--classes {" ".join(args.classes)} names a class or a value twice')
    check_folders(args)
    coco = convert(args, classes)
    counts = Counter(part['category_id'] for part in coco['annotations'])
    for category, (name, value) in enumerate(classes.items(), 1):
        if not counts[category]:
            raise UserError(
                f'there is no object {name}={value}: no map in {args.labels} has the value, or '
                '--objects numbers none; leave the class out, or correct it'
            )
    args.out.write_text(json.dumps(coco))
    found = ', '.join(f'{counts[i]} {name}' for i, name in enumerate(classes, 1))
    print(f'{found} of {len(coco["images"])} images in {args.out}')


if __name__ == '__main__':
    with one_line_errors('label_maps_to_coco.py'):
        main()
