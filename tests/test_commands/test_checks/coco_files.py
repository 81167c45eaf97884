"""Made data of boxes and masks in COCO's format."""

import json

import numpy as np
from PIL import Image

SIZE = 120, 90
CLASSES = ('box', 'disc')


def make(root, split, count=4, exif=1, ids=(1, 2), change=None):
    """Images of a rectangle of each class, and their file."""
    rng = np.random.default_rng(len(split))
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
    tags = Image.Exif()
    tags[0x0112] = exif
    for i in range(count):
        for category in ids:
            w, h = rng.integers(20, 40, 2).tolist()
            x, y = (int(rng.integers(0, edge - length)) for edge, length in zip(SIZE, (w, h)))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
        Image.new('RGB', SIZE).save(root / split / f'{i}.jpg', exif=tags)
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', width=SIZE[0], height=SIZE[1]))
    categories = [dict(id=key, name=name) for key, name in zip(ids, CLASSES)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    coco = changed if change and (changed := change(coco)) is not None else coco
    text = coco if isinstance(coco, str) else json.dumps(coco)
    (root / f'annotations/{split}.json').write_text(text)
