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
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from image_files import make_parser
from PIL import Image

from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.commands.measuring import progress
from mmtlalign.errors import UserError, one_line_errors

SUFFIXES = ('.jpg', '.jpeg', '.png')


def parse_class(text: str) -> tuple[str, int]:
    """NAME=VALUE, a number from 0 to 255."""
    name, _, value = text.rpartition('=')
    if not name or not value.isdecimal() or int(value) > 255:
        raise UserError(
            f'--classes {text!r} is not NAME=VALUE, VALUE being what the class has in the label '
            'maps, from 0 to 255: car=8'
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


def find_image(folder: Path, stem: str) -> Path:
    """The image of a label map."""
    for suffix in SUFFIXES:
        path = folder / f'{stem}{suffix}'
        if path.is_file():
            return path
    raise UserError(
        f"'{folder}' has no image {stem} ({', '.join(SUFFIXES)}), of which there is a label map"
    )


def find_objects(shown: np.ndarray, numbers: np.ndarray | None) -> Iterator[np.ndarray]:
    """Masks (H, W), uint8, of the objects of a class, which is shown where ``shown`` is 1."""
    if numbers is None:
        _, numbers = cv2.connectedComponents(shown)
    for number in np.unique(numbers[shown > 0]):
        if number not in (0, 255) or numbers.dtype != np.uint8:
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


def convert(args, classes: dict[str, int]) -> dict:
    """All maps of a folder."""
    paths = sorted(args.labels.glob('*.png'))
    if not paths:
        raise UserError(f"'{args.labels}' holds no label maps (*.png)")
    images, annotations = [], []
    for image_id, path in enumerate(progress(paths, 'label maps', len(paths)), 1):
        labels, numbers = read_map(path), None
        if args.objects:
            numbers = read_map(args.objects / path.name)
            if numbers.shape != labels.shape:
                raise UserError(
                    f"'{args.objects / path.name}' has {numbers.shape} pixels, but '{path}' "
                    f'{labels.shape}: they belong to other images'
                )
        height, width = labels.shape
        name = find_image(args.images, path.stem).name
        images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for category, value in enumerate(classes.values(), 1):
            for mask in find_objects((labels == value).astype(np.uint8), numbers):
                ids = dict(id=len(annotations) + 1, image_id=image_id, category_id=category)
                annotations.append(ids | describe(mask))
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def main() -> None:
    parser = make_parser(__doc__, 'objects.json')
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument('labels', type=Path, help='folder of their label maps')
    parser.add_argument('--objects', type=Path, help='folder of maps that number the objects')
    parser.add_argument('--classes', nargs='+', required=True, metavar='NAME=VALUE')
    args = parser.parse_args()
    check_absent(args.out)
    pairs = list(map(parse_class, args.classes))
    classes = dict(pairs)
    if len({*classes.values()}) < len(pairs):
        raise UserError(f'--classes {" ".join(args.classes)} names a class or a value twice')
    coco = convert(args, classes)
    if not coco['annotations']:
        raise UserError(f"'{args.labels}' shows none of {', '.join(args.classes)}")
    make_out_folder(args.out.parent)
    args.out.write_text(json.dumps(coco))
    print(f'{len(coco["annotations"])} objects of {len(coco["images"])} images in {args.out}')


if __name__ == '__main__':
    with one_line_errors('label_maps_to_coco.py'):
        main()
