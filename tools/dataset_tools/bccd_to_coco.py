"""Write the BCCD blood cells as the minis read them: COCO files.

    python tools/dataset_tools/bccd_to_coco.py PATH/BCCD_Dataset/BCCD

    OUT/{train,val}/*.jpg
    OUT/annotations/instances_{train,val}.json       boxes, no masks

The source is the folder of github.com/Shenggan/BCCD_Dataset with Annotations,
ImageSets and JPEGImages, in the format of Pascal VOC; the splits are its own.
The test split is not written: it stays out, as images on which nobody tuned.
"""

import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

from image_files import make_parser, read_image

from mmtlalign.commands.command_line import check_absent, make_out_folder
from mmtlalign.errors import UserError, one_line_errors

NAME = re.compile(r'[\w-][\w.-]*')  # no path
CLASSES = ('RBC', 'WBC', 'Platelets')  # in this order in the configs


def read_names(source: Path, split: str) -> list[str]:
    """Names of the images of a split, without suffix, sorted.

    Raises:
        UserError: If the list is missing, or has what is no name: paths in it
            would be read and written outside of the folders.
    """
    path = source / 'ImageSets' / 'Main' / f'{split}.txt'
    if not path.is_file():
        raise UserError(
            f"'{path}' does not exist; give the folder that holds "
            'Annotations, ImageSets and JPEGImages'
        )
    try:
        names = sorted(path.read_text(encoding='utf-8').split())
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is no text in UTF-8 ({error}); get the data set again") from None
    for name in names:
        if not NAME.fullmatch(name):
            raise UserError(
                f"'{path}' names {name!r:.60}, which is no name of an image: correct it"
            )
    return names


def read_xml(path: Path) -> ElementTree.Element:
    """The root of a file; a UserError if it is missing or damaged."""
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist; get the data set again") from None
    except (ElementTree.ParseError, RecursionError) as error:
        raise UserError(f"'{path}' is damaged ({error}); get the data set again") from None


def read_number(element: ElementTree.Element, key: str, path: Path) -> float:
    """What a file says for a key; a UserError if that is no finite number."""
    text = element.findtext(key)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"'{path}' has {text!r:.40} for {key}, which is no number; get the data set again"
        )
    return value


def convert(source: Path, names: list[str]) -> dict:
    """A split in COCO's format, ids from 1 in the order of the names.

    Boxes without an area are left out. A UserError names a file that is missing,
    is damaged or holds another class.
    """
    images, annotations = [], []
    for image_id, name in enumerate(names, 1):
        path = source / 'Annotations' / f'{name}.xml'
        root = read_xml(path)
        read_image(source / 'JPEGImages' / f'{name}.jpg')
        size = {key: int(read_number(root, f'size/{key}', path)) for key in ('width', 'height')}
        images.append(dict(id=image_id, file_name=f'{name}.jpg', **size))
        for element in root.iter('object'):
            kind = element.findtext('name')
            if kind not in CLASSES:
                raise UserError(
                    f"'{path}' has a {kind!r:.40}, which is none of {', '.join(CLASSES)}"
                )
            x1, y1, x2, y2 = (
                read_number(element, f'bndbox/{key}', path)
                for key in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            if x2 <= x1 or y2 <= y1:
                continue  # a slip of the mouse: one in either split
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=CLASSES.index(kind) + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                    segmentation=[],
                )
            )
    return dict(
        info=dict(description='BCCD blood cells, boxes from VOC files'),
        images=images,
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)],
    )


def main() -> None:
    parser = make_parser(__doc__, 'data/bccd')
    parser.add_argument('source', type=Path, help='the folder named BCCD')
    args = parser.parse_args()
    check_absent(args.out)
    # all of it is read before anything is written
    splits = {
        split: convert(args.source, read_names(args.source, split)) for split in ('train', 'val')
    }
    make_out_folder(args.out / 'annotations')
    for split, coco in splits.items():
        make_out_folder(args.out / split)
        for image in coco['images']:
            shutil.copy(args.source / 'JPEGImages' / image['file_name'], args.out / split)
        (args.out / f'annotations/instances_{split}.json').write_text(json.dumps(coco))
        print(
            f'{len(coco["images"])} images and {len(coco["annotations"])} '
            f'boxes in {args.out / split}'
        )


if __name__ == '__main__':
    with one_line_errors('bccd_to_coco.py'):
        main()
