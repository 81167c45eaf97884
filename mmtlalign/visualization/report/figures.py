"""Figures of a report, as data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

MAX_POINTS = 400  # of a curve: more would only make the page heavy
MAX_NAMES = 30  # of classes beside a confusion matrix


def draw_curve(title: str, series: dict[str, tuple[Sequence, Sequence]]) -> str:
    """One logged figure of several runs: name -> steps, values."""
    figure, axis = _new(4.6, 2.8)
    for name, points in series.items():
        steps, values = (np.asarray(part)[:: -(-len(part) // MAX_POINTS)] for part in points)
        axis.plot(steps, values, '.-' if len(steps) < 40 else '-', linewidth=1.2, label=name)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    if len(series) > 1:
        axis.legend(fontsize=8)
    return to_uri(figure, 'svg')


def draw_confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Which class (rows) is taken for which (columns), as a part of the row."""
    figure, axis = _new(5.2, 4.6)
    parts = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shown = axis.imshow(parts, cmap='Blues', vmin=0, vmax=1)
    axis.set(xlabel='predicted', ylabel='true', title='What is taken for what')
    if len(classes) <= MAX_NAMES:
        axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axis.set_yticks(range(len(classes)), classes, fontsize=7)
    if len(classes) <= 12:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                colour = 'white' if parts[i, j] > 0.5 else 'black'
                axis.text(j, i, count, ha='center', va='center', fontsize=7, color=colour)
    figure.colorbar(shown, ax=axis, fraction=0.04)
    return to_uri(figure)


def draw_reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> str:
    """Accuracy against confidence (N,) of predictions that are right (N,) or not, in bins."""
    figure, axis = _new(4.6, 3.6)
    index = (np.ceil(confidence * bins).astype(int).clip(1, bins)) - 1
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid='ignore'):
        accuracy = np.bincount(index, right, bins) / counts
    centres = (np.arange(bins) + 0.5) / bins
    axis.bar(centres, accuracy, 0.9 / bins, color='#4878a8', label='accuracy')
    axis.bar(centres, counts / len(index), 0.3 / bins, color='#b0b0b0', label='part of the images')
    axis.plot([0, 1], [0, 1], '--', color='grey', linewidth=1)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel='confidence', title='How sure, how right')
    axis.legend(fontsize=8, loc='upper left')
    return to_uri(figure, 'svg')


def _new(width: float, height: float):
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots()


def to_uri(figure: Figure, kind: str = 'png') -> str:
    """A figure in the page: 'svg' for lines, 'png' for pixels."""
    file = io.BytesIO()
    with rc_context({'svg.fonttype': 'none'}):
        figure.savefig(file, format=kind, dpi=110)
    mime = dict(svg='svg+xml').get(kind, kind)
    return f'data:image/{mime};base64,{base64.b64encode(file.getvalue()).decode()}'
