"""Pictures of what shares say of a model, and of what there is to see."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

TITLES = dict(answer="the model's answer", ablation='the ablation', truth='what is visible')


def draw_fidelity(checkpoints: dict[str, dict], title: str) -> Figure:
    """How shares follow each reference: at the output, and block by block.

    A column for every reference; from above, correlation within equal area, distance, and
    correlation after each block.

    Args:
        checkpoints (dict[str, dict]): label -> what
            :func:`mmtlalign.evaluation.fidelity.summarize` returned.
        title (str): What was measured.
    """
    held = {name for shares in checkpoints.values() for share in shares.values() for name in share}
    references = [name for name in TITLES if name in held]
    figure = Figure(figsize=(1.5 + 4.2 * len(references), 9.6), layout='constrained')
    figure.suptitle(title, fontsize='medium')
    grid = figure.subplots(3, len(references), sharey='row', squeeze=False)
    for column, reference in zip(grid.T, references):
        _draw_output(column[0], checkpoints, reference, 'correlation')
        _draw_output(column[1], checkpoints, reference, 'distance')
        _draw_blocks(column[2], checkpoints, reference)
        column[0].set_title(TITLES[reference])
    grid[1, 0].set_ylim(bottom=0)  # of the row, which fits all columns until then
    grid[0, 0].set_ylabel('correlation within equal area')
    grid[1, 0].set_ylabel('root mean square distance')
    grid[2, 0].set_ylabel('correlation, block by block')
    grid[0, 0].legend(frameon=False, fontsize='small')
    grid[2, 0].legend(frameon=False, fontsize='small')
    for axes in grid.flat:
        axes.spines[['top', 'right']].set_visible(False)
    return figure


def _of(checkpoints: dict, reference: str) -> Iterator[tuple]:
    """Number, label and the shares that are held against a reference."""
    for number, (label, shares) in enumerate(checkpoints.items()):
        held = {name: share[reference] for name, share in shares.items() if reference in share}
        yield number, label, held


def _draw_output(axes, checkpoints: dict, reference: str, measure: str) -> None:
    """A point with its interval for every share and checkpoint."""
    names: list[str] = []
    for number, label, shares in _of(checkpoints, reference):
        names += [name for name in shares if name not in names]
        values = np.array([share[measure][-1] for share in shares.values()], float)
        at = np.array([names.index(name) for name in shares])
        spread = np.abs(values[:, 1:] - values[:, :1]).T
        shift = 0.6 * ((number + 0.5) / len(checkpoints) - 0.5)
        axes.errorbar(
            at + shift, values[:, 0], spread, fmt='o', color=f'C{number}', markersize=4, label=label
        )
    axes.set_xticks(range(len(names)), names, rotation=20, fontsize='small')
    if measure == 'correlation':
        axes.axhline(0, color='0.7', linewidth=1, zorder=0)


def _draw_blocks(axes, checkpoints: dict, reference: str) -> None:
    """A line for every share that moves from block to block."""
    styles: dict[str, str] = {}
    for number, label, shares in _of(checkpoints, reference):
        for name, share in shares.items():
            values = np.array(share['correlation'], float)
            if len(values) == 1:
                continue
            style = styles.setdefault(name, ('-', '--', ':', '-.')[len(styles) % 4])
            axes.plot(range(1, 1 + len(values)), values[:, 0], style, color=f'C{number}')
    for name, style in styles.items():
        axes.plot([], [], style, color='black', label=name)
    axes.axhline(0, color='0.7', linewidth=1, zorder=0)
    axes.set(xlabel='after block')
    axes.xaxis.get_major_locator().set_params(integer=True)
