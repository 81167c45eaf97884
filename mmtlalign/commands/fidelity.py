"""Do shares say what a model does with a mix, and what there is to see?

Pairs the config's test images, pastes boxes on the grid of patches, and holds
the shares of the mixes against, among mixes of equal area,

- the model's own answer: the probability of the own label over that of both;
- the ablation: how far what the head reads moves without the own image, over
  how far it moves without either;
- the truth, where test images have an ``object_mask``: the visible pixels of
  the own object over those of both.

Prints how far shares have moved from the area on average, correlations within
equal area, and root mean square distances, with 95 % intervals of a bootstrap
over pairs of images; block by block in the .json, in a picture beside it.

    mmtlalign fidelity CONFIG CHECKPOINT... --shares tlalign contribution
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import DATASETS

from mmtlalign.apis import get_model
from mmtlalign.commands.checks import check_data
from mmtlalign.commands.command_line import check_file, new_parser, number
from mmtlalign.commands.measuring import (
    add_measuring_arguments,
    open_tested,
    progress,
    save,
    save_picture,
)
from mmtlalign.errors import UserError
from mmtlalign.evaluation.fidelity import (
    REFERENCES,
    SHARES,
    Fidelity,
    Pairs,
    draw_pairs,
    join,
    summarize,
)
from mmtlalign.visualization import draw_fidelity


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config of a classifier')
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument(
        '--labels',
        nargs='+',
        help='their names in table and picture '
        '(default: the folders that they are in, and the files too where one '
        'holds more)',
    )
    parser.add_argument(
        '--shares',
        nargs='+',
        metavar='SHARE',
        help=f'of {", ".join(SHARES)} or another propagation (default: all '
        'of these that the backbone offers)',
    )
    parser.add_argument(
        '--mixes', type=number(int, 4), default=5000, help='how many, about (default: 5000)'
    )
    add_measuring_arguments(parser, 'fidelity.json', 'pairs, boxes and bootstrap')
    return parser


def name_checkpoints(paths: list[str], labels: list[str] | None) -> list[str]:
    """A label for each, by which results are kept.

    Raises:
        UserError: If two are the same, or there are more or less of them.
    """
    if labels and len(labels) != len(paths):
        raise UserError(f'--labels names {len(labels)} of {len(paths)} checkpoints')
    files = [Path(path).resolve() for path in paths]
    folders = Counter(file.parent.name for file in files)
    labels = labels or [
        file.parent.name + f'/{file.stem}' * (folders[file.parent.name] > 1) for file in files
    ]
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"label '{label}' stands for {count} checkpoints; tell them apart with --labels"
        )
    return labels


def class_labels(dataset) -> list[int]:
    """Of all images, one each.

    Raises:
        UserError: If an image has several or none.
    """
    labels = []
    for index in range(len(dataset)):
        label = dataset.get_data_info(index).get('gt_label')
        if not isinstance(label, int):
            raise UserError(
                f'test image {index} has the labels {label}; pairs need images of exactly one'
            )
        labels.append(label)
    return labels


def measure(model, dataset, pairs: Pairs, args, label: str) -> dict:
    """What is written down of one checkpoint."""
    try:
        fidelity = Fidelity(model, args.shares)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from None
    for name, reason in fidelity.left_out.items():
        print(f'{name} is left out: {reason}')
    parts = progress(fidelity.measure(dataset, pairs), label, fidelity.batches(pairs))
    measured = join(list(parts))
    known = np.isfinite(measured.references.get('truth', measured.lam))
    if not known.all():
        print(f'truth is told by {known.sum()} of {len(known)} mixes; the others show no object')
    return summarize(measured, seed=args.seed)


def write_table(checkpoints: dict[str, dict]) -> Iterator[str]:
    """Lines of Markdown: the shares at the output."""
    held = {name for shares in checkpoints.values() for share in shares.values() for name in share}
    references = [name for name in REFERENCES if name in held]
    yield '| model | share | moved |' + ''.join(
        f' {name}: correlation | distance |' for name in references
    )
    yield '|---|---|---|' + '---|---|' * len(references)
    for label, shares in checkpoints.items():
        for name, share in shares.items():
            moved = f'{share["movement"][-1]:.3f}'
            yield f'| {label} | {name} | {moved} |' + ''.join(
                f' {_cell(share[r]["correlation"][-1], "+.2f")} |'
                f' {_cell(share[r]["distance"][-1], ".3f")} |'
                if r in share
                else ' | |'
                for r in references
            )


def _cell(values: list[float | None], form: str) -> str:
    if None in values:
        return 'not known'
    value, low, high = (format(v, form) for v in values)
    return f'{value} ({low} to {high})'


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    for path in args.checkpoints:
        check_file(path, 'checkpoint')
    labels = name_checkpoints(args.checkpoints, args.labels)
    cfg = open_tested(args, ImageClassifier)
    check_data(cfg, 'test')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    classes = class_labels(dataset)
    name = Path(args.config).stem
    result, pairs = {}, None
    for label, checkpoint in zip(labels, args.checkpoints):
        model = get_model(cfg, checkpoint, args.device, trust=args.trust)
        if pairs is None:
            pairs = draw_pairs(
                classes,
                Fidelity(model, ['area']).grid_of(dataset),
                args.mixes,
                torch.Generator().manual_seed(args.seed),
            )
        result[label] = measure(model, dataset, pairs, args, label)
        figures = dict(config=name, seed=args.seed, mixes=pairs.mixes, pairs=len(pairs.images))
        save(dict(figures, checkpoints=result), args.out)
        title = f'{name}: {pairs.mixes} mixes of {len(pairs.images)} pairs'
        picture = save_picture(draw_fidelity(result, title), args.out)
    print('\n'.join(write_table(result)))
    print(f'figures: {args.out}, picture: {picture}')
