"""Time and memory of reading annotations of COCO's size, as checks do.

    python tools/benchmarks/coco_reading.py
    python tools/benchmarks/coco_reading.py --annotations 86000

Writes a made file, by default of COCO's 860,000 annotations and 450 MB, whose
images come after the annotations, and reads it once.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmtlalign.commands.checks.coco import read_coco

POINTS = 19  # of a polygon, on average: what makes 450 MB
PER_IMAGE, NUM_CATEGORIES = 7, 80


def write_file(path: Path, count: int) -> None:
    """Random boxes and polygons, a record at a time."""
    rng = np.random.default_rng(0)
    with path.open('w') as file:
        file.write('{"info": {}, "annotations": [')
        for i in range(count):
            num_points = int(rng.integers(POINTS // 2, 3 * POINTS // 2 + 1))
            polygon = rng.uniform(0, 480, 2 * num_points).round(2).tolist()
            x, y, w, h = rng.uniform(1, 200, 4).round(2).tolist()
            ids = dict(id=i + 1, image_id=i // PER_IMAGE, category_id=i % NUM_CATEGORIES + 1)
            shape = dict(segmentation=[polygon], bbox=[x, y, w, h], area=round(w * h, 4), iscrowd=0)
            file.write(', ' * bool(i) + json.dumps(dict(shape, **ids)))
        images = [
            dict(id=i, file_name=f'{i:012}.jpg', width=640, height=480)
            for i in range((count - 1) // PER_IMAGE + 1)
        ]
        categories = [dict(id=i + 1, name=f'class {i}') for i in range(NUM_CATEGORIES)]
        file.write(f'], "images": {json.dumps(images)}, "categories": {json.dumps(categories)}}}')


def peak() -> float:
    """Of this process's memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--annotations', type=int, default=860_000, help='default: %(default)s')
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder, 'instances.json')
        write_file(path, args.annotations)
        before, start = peak(), time.perf_counter()
        coco = read_coco(str(path), path.name)
        seconds = time.perf_counter() - start
        assert len(coco.table['id']) == args.annotations
        print(
            f'{path.stat().st_size / 1e6:.0f} MB, {args.annotations} '
            f'annotations of {len(coco.images)} images: {seconds:.1f} s, '
            f'peak {peak():.0f} MB ({before:.0f} MB before)'
        )


if __name__ == '__main__':
    main()
