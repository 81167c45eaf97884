"""What loading images from a table costs, beside loading them from files.

``mmtlalign.HFImageDataset`` on parquet (so from its memory-mapped cache), on
tar shards, and on the folder itself, against the host's ``CustomDataset`` on
the folder: the same encoded images in the same shuffled order, decoded by the
same step. Files and tables are in memory, where the overhead that is measured
is largest beside the rest. Measured and judged as by alignment_overhead.py;
the bar is 1.05.

    python tools/benchmarks/hf_dataset.py
"""

import argparse
import io
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import cv2
import datasets
import numpy as np
from alignment_overhead import NULL, STOCK, clocks, interleave, print_head, report_seconds
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset
from torch.utils.data import Dataset

from mmtlalign.datasets import HFImageDataset

CLASSES = ('even', 'odd')
LOAD = [dict(type='LoadImageFromFile')]
# Rows and columns: the most frequent size of ImageNet, and that of CIFAR.
SIZES = {'500x375': (375, 500), '32x32': (32, 32)}


def write_images(folder: Path, size: tuple[int, int], count: int) -> None:
    """Smooth shapes and some noise, as in photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = (image + rng.normal(0, 6, image.shape)).clip(0, 255)
        path = folder / 'train' / CLASSES[i % 2] / f'{i:05}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), noisy.astype(np.uint8))


def write_tables(folder: Path, stock: CustomDataset) -> None:
    """The same images in the same order, as parquet and as a tar shard."""
    infos = [stock.get_data_info(i) for i in range(len(stock))]
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )
    (folder / 'parquet').mkdir()
    datasets.Dataset.from_list(
        [
            dict(image=dict(bytes=Path(info['img_path']).read_bytes()), label=info['gt_label'])
            for info in infos
        ],
        features,
    ).to_parquet(folder / 'parquet/train.parquet')
    (folder / 'tar').mkdir()
    with tarfile.open(folder / 'tar/train.tar', 'w') as tar:
        for i, info in enumerate(infos):
            tar.add(info['img_path'], f'{i:05}.jpg')
            label = b'%d' % info['gt_label']
            entry = tarfile.TarInfo(f'{i:05}.cls')
            entry.size = len(label)
            tar.addfile(entry, io.BytesIO(label))


def make_variants(folder: Path, size: tuple[int, int], count: int) -> dict[str, Dataset]:
    write_images(folder / 'folder', size, count)
    stock = CustomDataset(data_prefix=str(folder / 'folder/train'), pipeline=LOAD)
    write_tables(folder, stock)

    def ours(root: str, **kwargs) -> HFImageDataset:
        return HFImageDataset(
            str(folder / root), pipeline=LOAD, cache_dir=str(folder / 'cache'), **kwargs
        )

    return {
        STOCK: stock,
        NULL: stock,
        'parquet': ours('parquet'),
        'tar': ours('tar', image_column='jpg', label_column='cls', classes=CLASSES),
        'folder': ours('folder'),
    }


def epoch(dataset: Dataset, number: int) -> np.ndarray:
    """Seconds of reading all of it once, in that round's order."""
    order = np.random.default_rng(number).permutation(len(dataset)).tolist()
    start = clocks()
    for index in order:
        dataset[index]
    return clocks() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=256)
    parser.add_argument('--rounds', type=int, default=30)
    args = parser.parse_args()
    cv2.setNumThreads(0)
    datasets.disable_progress_bars()
    init_default_scope('mmpretrain')
    print_head(f'{args.images} images, {args.rounds} rounds; ratios to {STOCK}', 'stock, ms')
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            variants = make_variants(Path(folder), size, args.images)
            epochs = {key: partial(epoch, dataset) for key, dataset in variants.items()}
            report_seconds(name, interleave(epochs, args.rounds, name))


if __name__ == '__main__':
    main()
