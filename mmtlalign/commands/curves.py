"""Draw the learning curves of a run from its JSON log.

mmtlalign curves work_dirs/NAME/20260101_000000/vis_data/scalars.json
"""

import argparse
import json
import os.path as osp

import matplotlib
from matplotlib import pyplot as plt

from mmtlalign.commands.command_line import make_folder_of_picture, new_parser
from mmtlalign.errors import UserError
from mmtlalign.output_files import written_beside

matplotlib.use('Agg')  # a picture in a file needs no display

# Panels: title, axis label, and the logged figures that go into them.
TRAINING = (
    ('Training loss', 'loss', ('loss',)),
    ('Share of the own image', 'share', ('lam', 'aligned_share')),
    ('Token fluctuation', 'mean |aligned share - lam|', ('token_fluctuation',)),
)
ACCURACY = 'accuracy/top1'


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument(
        'logs',
        nargs='+',
        metavar='LOG_JSON',
        help='vis_data/scalars.json of the run; of a resumed run all of them, oldest first',
    )
    parser.add_argument(
        '--out', default='curves.png', metavar='PNG', help='picture to write (default: curves.png)'
    )
    return parser


def read_log(paths):
    """Read the lines of one run.

    Args:
        paths (list[str]): JSON-lines files, oldest first. Where two of them
            hold the same step, as after a resumed run, the later one counts.

    Returns:
        tuple[dict, dict]: Figures of training by iteration and of validation by the step mmengine
        gives them (the epoch, or the iteration where training is counted in iterations).

    Raises:
        UserError: If a file is missing or is no such log.
    """
    train, val = {}, {}
    for path in paths:
        if not osp.isfile(path):
            raise UserError(f"log '{path}' does not exist")
        with open(path, 'rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    step, _ = int(record['step']), float(record.get('loss', 0))
                except (ValueError, KeyError, TypeError, RecursionError):
                    if line.startswith(b'{') and not line.endswith((b'}', b'\n')):
                        continue  # the training was killed while it wrote this one
                    raise UserError(
                        f"'{path}', line {number}, is no record of a "
                        'training log: give vis_data/scalars.json'
                    ) from None
                (train if 'loss' in record else val)[step] = record
    if not train:
        raise UserError(f"no training step is logged in '{paths[-1]}' yet")
    return train, val


def series(records, key):
    """Steps and values of one logged figure, in order."""
    points = sorted((step, record[key]) for step, record in records.items() if key in record)
    return [list(column) for column in zip(*points)] or [[], []]


def draw(train, val, out):
    """Write the picture: one panel for each kind of figure in the log."""
    panels = [
        (title, label, keys, train, 'iteration')
        for title, label, keys in TRAINING
        if any(series(train, key)[0] for key in keys)
    ]
    if accuracies := series(val, ACCURACY)[1]:
        title = f'Accuracy on held-out images (last: {accuracies[-1]:.1f} %)'
        unit = 'epoch' if any('epoch' in record for record in train.values()) else 'iteration'
        panels.insert(1, (title, 'top-1, %', (ACCURACY,), val, unit))
    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(
        rows, 2, figsize=(10, 3.4 * rows), squeeze=False, layout='constrained'
    )
    for axis, panel in zip(axes.flat, panels):
        draw_panel(axis, *panel)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    with written_beside(out) as beside:
        figure.savefig(beside, dpi=120)
    plt.close(figure)


def draw_panel(axis, title, label, keys, records, unit):
    """Draw figures against the step, with a legend if there are several."""
    for key, style in zip(keys, ('.-', '.--')):
        axis.plot(*series(records, key), style, markersize=4, linewidth=1, label=key)
    axis.set(title=title, xlabel=unit, ylabel=label)
    axis.grid(alpha=0.3)
    if len(keys) > 1:
        axis.legend()


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    make_folder_of_picture(args.out)
    train, val = read_log(args.logs)
    draw(train, val, args.out)
    print(f'wrote {args.out}')
