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
import os
import os.path as osp
import re
from collections import defaultdict
from collections.abc import Iterator
from math import lcm
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import to_2tuple
from mmpretrain.models import BaseClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets.folder import find_classes

from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import for_files
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.commands.checks import check_data, classes_in
from mmtlalign.commands.command_line import check_file, new_parser, number
from mmtlalign.commands.measuring import (
    add_measuring_arguments,
    open_tested,
    progress,
    save,
    save_picture,
)
from mmtlalign.errors import UserError
from mmtlalign.evaluation.robustness import (
    drop_patches,
    expected_calibration_error,
    fgsm,
    fitting_patch_size,
)


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
    add_measuring_arguments(parser, 'robustness.json', 'the dropped patches')
    return parser


def read_batch(model: nn.Module, batch) -> tuple[Tensor, Tensor]:
    """A batch of the loader -> normalised images and labels."""
    data = model.data_preprocessor(batch, False)
    labels = [sample.gt_label for sample in data['data_samples']]
    return data['inputs'], torch.cat(labels).to(data['inputs'].device)


def disturb(
    model: nn.Module, images: Tensor, labels: Tensor, args, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """The images as they are, then disturbed, each time under a name."""
    yield 'clean', images
    size = patch_side(args.patch_size, images, model)
    for fraction in args.drop:
        yield f'drop {fraction:g}', drop_patches(images, fraction, size, generator)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    names = (f'fgsm {strength:g}/255' for strength in args.fgsm)
    yield from zip(names, fgsm(model, images, labels, args.fgsm, mean, std))


def measure(model: nn.Module, loader: DataLoader, args: argparse.Namespace) -> dict:
    """All disturbances of the config's own images, in one pass."""
    generator = torch.Generator().manual_seed(args.seed)
    batches: list[tuple[Tensor, Tensor]] = []  # scores, labels
    right = defaultdict(list)
    for batch in progress(loader, 'test images', len(loader)):
        images, label = read_batch(model, batch)
        for name, version in disturb(model, images, label, args, generator):
            with torch.no_grad():
                logits = model(version)
            right[name].append(logits.argmax(1) == label)
            if name == 'clean':
                batches.append((logits.softmax(1).cpu(), label.cpu()))
    scores, labels = map(torch.cat, zip(*batches))
    return dict(
        top1={name: accuracy(parts) for name, parts in right.items()},
        calibration_error=100 * expected_calibration_error(scores, labels),
        confidence=100 * scores.max(1).values.mean().item(),
        num_images=len(labels),
    )


def accuracy(right: list[Tensor]) -> float:
    """In per cent, of batches of whether answers are right."""
    found = torch.cat(right)
    return 100 * found.sum().item() / len(found)


def patch_side(given: int | None, images: Tensor, model: nn.Module) -> int:
    """Of the patches to drop, in pixels; the one given, if it divides."""
    height, width = images.shape[-2:]
    token = lcm(*to_2tuple(model.cfg.model.backbone.get('patch_size', 1)))
    fitting = fitting_patch_size(height, width, token)
    if given and (height % given or width % given):
        raise UserError(
            f'--patch-size {given} does not divide the images of '
            f'{height}x{width} pixels; give a size that does, '
            f'such as {fitting}'
        )
    return given or fitting


def measure_trees(model: nn.Module, cfg: Config, trees: list[Path]) -> float:
    """Mean top-1 over class-folder trees, in per cent.

    Only the classes that a tree has compete, as is usual for ImageNet-A and
    -R, which hold 200 of the 1000.
    """
    own = own_classes(cfg)
    accuracies = []
    for root in trees:
        classes = torch.tensor([own.index(name) for name in find_classes(root)[0]])
        dataset = dict(
            type='CustomDataset',
            data_root='',
            data_prefix=str(root),
            ann_file='',
            pipeline=for_files(cfg).test_dataloader.dataset.pipeline,
        )
        loader = Runner.build_dataloader({**cfg.test_dataloader, 'dataset': dataset})
        right = []
        for batch in progress(loader, str(root), len(loader)):
            images, label = read_batch(model, batch)
            with torch.no_grad():
                logits = model(images)[:, classes.to(images.device)]
            right.append(logits.argmax(1) == label)
        accuracies.append(accuracy(right))
    return sum(accuracies) / len(accuracies)


def own_classes(cfg: Config) -> list[str]:
    """Names of the class folders that the config tests on, sorted, which numbers the classes."""
    dataset = cfg.test_dataloader.dataset
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    if isinstance(prefix, dict):
        prefix = next(iter(prefix.values()))
    root = Path(dataset.get('data_root') or '', prefix)
    try:
        return find_classes(root)[0]
    except OSError:
        raise UserError(
            '--folders compares class folders with those of the '
            f"config's own images, but '{root}' holds none"
        ) from None


def find_trees(cfg: Config, folder: str) -> list[Path]:
    """Folders at or below a folder whose folders are all known classes, and
    not all empty."""
    if not osp.isdir(folder):
        raise UserError(f"--folders: '{folder}' does not exist")
    own = own_classes(cfg)
    found = [
        Path(root)
        for root, children, _ in os.walk(folder)
        if children
        and set(own).issuperset(children)
        and any(any(Path(root, child).iterdir()) for child in children)
    ]
    if not found:
        raise UserError(
            f"--folders: below '{folder}' there is no folder whose folders "
            'are all named like classes of the config, such as '
            f"'{own[0]}', and hold images"
        )
    return sorted(found)


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


def draw(result: dict) -> Figure:
    """Bars of accuracy."""
    names, values = zip(*result['top1'].items())
    figure = Figure(figsize=(7, 0.5 + 0.4 * len(names)), layout='tight')
    axes = figure.subplots()
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
    return figure


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    check_file(args.checkpoint, 'checkpoint')
    folders = read_folders(args.folders)
    cfg = open_tested(args, BaseClassifier)
    trained = classes_in(load_checkpoint_safely(args.checkpoint, args.trust))
    check_data(cfg, 'test', trained=trained, checkpoint=args.checkpoint)
    trees = {name: find_trees(cfg, folder) for name, folder in folders}
    model = get_model(cfg, args.checkpoint, args.device, trust=args.trust).requires_grad_(False)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    # before anything is measured, the first image tells whether patches fit
    images, _ = read_batch(model, loader.collate_fn([loader.dataset[0]]))
    patch_side(args.patch_size, images, model)
    result = dict(
        config=Path(args.config).stem, checkpoint=Path(args.checkpoint).name, seed=args.seed
    )
    result |= measure(model, loader, args)
    save(result, args.out)
    for name, roots in trees.items():
        result['top1'][name] = measure_trees(model, cfg, roots)
        save(result, args.out)
    picture = save_picture(draw(result), args.out)
    for name, value in result['top1'].items():
        print(f'{name:>14}: {value:6.2f} %')
    print(
        f'calibration error {result["calibration_error"]:.2f} %, mean '
        f'confidence {result["confidence"]:.2f} %; figures: {args.out}, '
        f'picture: {picture}'
    )
