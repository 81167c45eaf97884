"""How a classifier stands disturbed images: accuracy, and a picture.

Measured on the config's test images: top-1 accuracy, calibration error and
mean confidence (below the accuracy: a model too unsure) of the images as they
are; top-1 with a random part of the patches dropped; top-1 after one step
along the sign of the gradient (FGSM). With ``--folders``, top-1 on other
versions of ImageNet (-A, -R, -Sketch, -C), where you have them: folders of
class folders, at any depth, named like those of the config's own.

    mmtlalign robustness CONFIG CHECKPOINT \
        --folders A=data/imagenet-a C=data/imagenet-c
"""

import argparse
import json
import os
import os.path as osp
import re
from math import lcm
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils import to_2tuple
from mmpretrain.models import BaseClassifier
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import for_files
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.commands.checks import check_data, classes_in
from mmtlalign.commands.command_line import (
    add_cfg_options,
    add_trust_argument,
    check_file,
    ending,
    make_folder_of,
    new_parser,
    number,
)
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.unread_keys import merge_options
from mmtlalign.errors import UserError
from mmtlalign.evaluation.robustness import (
    drop_patches,
    expected_calibration_error,
    fgsm,
    fitting_patch_size,
)
from mmtlalign.output_files import write_whole, written_beside
from mmtlalign.resources import check_class, check_data_of, open_config

matplotlib.use('Agg')  # a picture in a file needs no display


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a classification config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--drop',
        nargs='*',
        type=number(float, 0, 1),
        default=[0.25, 0.5, 0.75],
        metavar='FRACTION',
        help='parts of the patches to drop',
    )
    parser.add_argument(
        '--patch-size',
        type=number(int, 1),
        metavar='PIXELS',
        help='side of a dropped patch (default: whole patches of the '
        "backbone, about a 14th of the image's side: 16 at 224)",
    )
    parser.add_argument(
        '--fgsm',
        nargs='*',
        type=number(float, 0, 255),
        default=[1.0, 2.0],
        metavar='STRENGTH',
        help='in 255ths of the pixel range',
    )
    parser.add_argument(
        '--folders', nargs='*', default=[], metavar='NAME=FOLDER', help='further images'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the dropped patches')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    add_cfg_options(parser)
    add_trust_argument(parser)
    parser.add_argument(
        '--out',
        type=ending('.json'),
        default='robustness.json',
        help='.json to write; a .png goes beside it',
    )
    return parser


class Classifier:
    """A trained classifier of mmpretrain: batches in, logits out."""

    def __init__(self, cfg: Config, checkpoint: str, device: str, trust: bool = False) -> None:
        self.model = get_model(cfg, checkpoint, device, trust=trust).requires_grad_(False)
        preprocessor = self.model.data_preprocessor
        self.mean, self.std = preprocessor.mean, preprocessor.std
        self.token = lcm(*to_2tuple(cfg.model.backbone.get('patch_size', 1)))

    def read(self, batch) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the loader -> normalised images and labels."""
        data = self.model.data_preprocessor(batch, False)
        labels = [sample.gt_label for sample in data['data_samples']]
        return data['inputs'], torch.cat(labels).to(data['inputs'].device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images -> logits (B, K)."""
        return self.model.head(self.model.extract_feat(images))


def measure(classifier: Classifier, loader, args) -> dict:
    """All disturbances of the config's own images, in one pass."""
    generator = torch.Generator().manual_seed(args.seed)
    batches: list[tuple[Tensor, Tensor]] = []  # scores, labels
    right: dict[str, int] = {}

    def count(name: str, images: torch.Tensor, label: torch.Tensor):
        with torch.no_grad():
            logits = classifier(images)
        hits = int((logits.argmax(1) == label).sum())
        right[name] = right.get(name, 0) + hits
        return logits

    for batch in progress(loader, 'test images'):
        images, label = classifier.read(batch)
        logits = count('clean', images, label)
        batches.append((logits.softmax(1).cpu(), label.cpu()))
        size = patch_side(args.patch_size, images, classifier.token)
        for fraction in args.drop:
            count(f'drop {fraction:g}', drop_patches(images, fraction, size, generator), label)
        attacks = fgsm(classifier, images, label, args.fgsm, classifier.mean, classifier.std)
        for strength, attacked in zip(args.fgsm, attacks):
            count(f'fgsm {strength:g}/255', attacked, label)
    scores, labels = map(torch.cat, zip(*batches))
    error = expected_calibration_error(scores, labels)
    return dict(
        top1={name: 100 * hits / len(labels) for name, hits in right.items()},
        calibration_error=100 * error,
        confidence=100 * scores.max(1).values.mean().item(),
        num_images=len(labels),
    )


def patch_side(given: int | None, images: torch.Tensor, token: int) -> int:
    """Of the patches to drop, in pixels; the one given, if it divides."""
    height, width = images.shape[-2:]
    fitting = fitting_patch_size(height, width, token)
    if given and (height % given or width % given):
        raise UserError(
            f'--patch-size {given} does not divide the images of '
            f'{height}x{width} pixels; give a size that does, '
            f'such as {fitting}'
        )
    return given or fitting


def progress(loader, what: str):
    """A bar with the time left."""
    return track(loader, what, total=len(loader), console=Console(stderr=True))


def measure_trees(classifier: Classifier, cfg: Config, trees: list[Path]) -> float:
    """Mean top-1 over class-folder trees, in per cent.

    Only the classes that a tree has compete, as is usual for ImageNet-A and
    -R, which hold 200 of the 1000.
    """
    own = class_folders(dataset_root(cfg))
    accuracies = []
    for root in trees:
        names = class_folders(root)
        classes = torch.tensor([own.index(name) for name in names])
        loader = build_loader(
            cfg,
            dict(
                type='CustomDataset',
                data_root='',
                data_prefix=str(root),
                ann_file='',
                pipeline=for_files(cfg).test_dataloader.dataset.pipeline,
            ),
        )
        hits = total = 0
        for batch in progress(loader, str(root)):
            images, label = classifier.read(batch)
            with torch.no_grad():
                logits = classifier(images)[:, classes.to(images.device)]
            hits += int((logits.argmax(1) == label).sum())
            total += len(label)
        accuracies.append(100 * hits / total)
    return sum(accuracies) / len(accuracies)


def dataset_root(cfg: Config) -> Path:
    """The folder of class folders that the config tests on."""
    dataset = cfg.test_dataloader.dataset
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    if isinstance(prefix, dict):
        prefix = next(iter(prefix.values()))
    root = Path(dataset.get('data_root') or '', prefix)
    if not root.is_dir():
        raise UserError(
            f'--folders compares class folders with those of the '
            f"config's own images, but '{root}' is no folder"
        )
    return root


def class_folders(root: Path) -> list[str]:
    """Names of the folders below, sorted, which numbers the classes."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())


def find_trees(cfg: Config, folder: str) -> list[Path]:
    """Folders at or below a folder whose folders are all known classes, and
    not all empty."""
    if not osp.isdir(folder):
        raise UserError(f"--folders: '{folder}' does not exist")
    own = set(class_folders(dataset_root(cfg)))
    found = [
        Path(root)
        for root, children, _ in os.walk(folder)
        if children
        and own.issuperset(children)
        and any(any(Path(root, child).iterdir()) for child in children)
    ]
    if not found:
        raise UserError(
            f"--folders: below '{folder}' there is no folder whose folders "
            'are all named like classes of the config, such as '
            f"'{min(own)}', and hold images"
        )
    return sorted(found)


def build_loader(cfg: Config, dataset: dict):
    """The config's test loader, with another dataset."""
    loader = cfg.test_dataloader.copy()
    loader.dataset = dataset
    return Runner.build_dataloader(loader)


def read_folders(items: list[str]) -> list[tuple[str, str]]:
    """Names and folders of --folders.

    Raises:
        UserError: If one is not NAME=FOLDER, or a name is taken: results are kept by it.
    """
    pairs = [item.partition('=')[::2] for item in items]
    names = [name for name, _ in pairs]
    for name, folder in pairs:
        if not folder:
            raise UserError(f"--folders '{name}' must be NAME=FOLDER")
        if names.count(name) > 1 or re.match('clean$|drop |fgsm ', name):
            raise UserError(f"--folders: the name '{name}' is taken; give another")
    return pairs


def save(result: dict, path: str) -> None:
    """Write the figures so far."""
    write_whole(path, json.dumps(result, indent=1) + '\n')


def draw(result: dict, path: Path) -> None:
    """Bars of accuracy."""
    names, values = zip(*result['top1'].items())
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(names)))
    bars = axes.barh(names, values, color='#4878a8')
    axes.bar_label(bars, fmt='%.1f', padding=3)
    axes.set(xlim=(0, 108), xlabel='top-1 accuracy, %')
    axes.set_title(
        f'{result["config"]}\n{result["num_images"]} images, '
        f'calibration error {result["calibration_error"]:.1f} %',
        fontsize='medium',
    )
    axes.invert_yaxis()
    axes.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=110)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    check_file(args.checkpoint, 'checkpoint')
    pairs = read_folders(args.folders)
    cfg = open_config(args.config, args.trust)
    merge_options(cfg, args.cfg_options, args.allow_unread)
    use_own_loaders(cfg)
    check_class(cfg, BaseClassifier)
    check_data_of(cfg, 'test')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    trained = classes_in(load_checkpoint_safely(args.checkpoint, args.trust))
    check_data(cfg, 'test', trained=trained, checkpoint=args.checkpoint)
    trees = [(name, find_trees(cfg, folder)) for name, folder in pairs]
    make_folder_of(args.out)
    classifier = Classifier(cfg, args.checkpoint, args.device, args.trust)
    result = dict(
        config=Path(args.config).stem, checkpoint=Path(args.checkpoint).name, seed=args.seed
    )
    loader = build_loader(cfg, cfg.test_dataloader.dataset)
    # before anything is measured, the first image tells whether patches fit
    images, _ = classifier.read(loader.collate_fn([loader.dataset[0]]))
    patch_side(args.patch_size, images, classifier.token)
    result.update(measure(classifier, loader, args))
    save(result, args.out)
    for name, roots in trees:
        result['top1'][name] = measure_trees(classifier, cfg, roots)
        save(result, args.out)
    picture = Path(args.out).with_suffix('.png')
    draw(result, picture)
    for name, value in result['top1'].items():
        print(f'{name:>14}: {value:6.2f} %')
    print(
        f'calibration error {result["calibration_error"]:.2f} %, mean '
        f'confidence {result["confidence"]:.2f} %; figures: {args.out}, '
        f'picture: {picture}'
    )
