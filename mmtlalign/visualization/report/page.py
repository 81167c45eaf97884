"""The page: what is known of runs, put into ``page.html.j2``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .figures import draw_confusion, draw_curve, draw_reliability

MAX_CURVES = 12
MAX_CLASSES = 100  # of a confusion matrix; beyond, its largest entries are listed
MAX_PAIRS = 50
MAX_SAMPLES = 64  # in a page, and of how many bytes
MAX_BYTES = 3_500_000
NO_CURVES = ('step', 'iter', 'epoch', 'base_lr', 'time', 'data_time', 'memory')
FIRST = ('loss', 'accuracy', 'coco/bbox_mAP', 'mIoU')  # of the curves


@dataclass
class Run:
    """What is known of a run; all that is not stays empty.

    Args:
        name (str): Of its work dir, unique in a page.
        facts (dict): What ran, by label, in order.
        changes (list): Entries of the config that differ from its base, (key, value).
        train, val (dict): Step -> logged figures.
        metrics (dict): Of the last validation.
        predictions (dict): What :class:`mmtlalign.KeepPredictions` wrote.
        warnings (dict): Text -> how often.
        alignment (str): Data URI of the picture.
        notes (list): Why parts are missing, or what limits a comparison.
    """

    name: str
    facts: dict[str, str] = field(default_factory=dict)
    changes: list[tuple[str, str]] = field(default_factory=list)
    train: dict[int, dict] = field(default_factory=dict)
    val: dict[int, dict] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    predictions: dict = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    alignment: str = ''
    notes: list[str] = field(default_factory=list)


def render(runs: Sequence[Run], differences: Sequence[tuple[str, str]] = ()) -> str:
    """HTML that loads nothing, and in which everything from files is escaped.

    Args:
        runs (Sequence[Run]): One, or those to compare.
        differences (Sequence[tuple[str, str]]): What was found of pairs of runs, as headline and
            text. Defaults to none.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template('page.html.j2').render(
        runs=runs,
        differences=differences,
        facts=list(dict.fromkeys(label for run in runs for label in run.facts)),
        metrics=list(dict.fromkeys(name for run in runs for name in run.metrics)),
        curves=draw_curves(runs),
        parts=[describe(run, MAX_SAMPLES // len(runs)) for run in runs],
    )


def draw_curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Titles and pictures of what the runs have logged."""
    series: dict[str, dict] = {}
    for run in runs:
        for log in (run.train, run.val):
            for key in {key: None for record in log.values() for key in record}:
                points = sorted((s, r[key]) for s, r in log.items() if _is_number(r.get(key)))
                if points and key not in NO_CURVES:
                    series.setdefault(key, {})[run.name] = tuple(zip(*points))
    order = sorted(series, key=lambda key: not key.startswith(FIRST))[:MAX_CURVES]
    return [(key, draw_curve(key, series[key])) for key in order]


def describe(run: Run, num_samples: int) -> dict:
    """Figures, tables and samples of a run's predictions."""
    found = run.predictions
    images, classes = found.get('images', []), found.get('classes', [])
    part: dict = dict(confusion='', pairs=[], reliability='', per_class=[], unit='')
    if images and 'label' in images[0]:
        labels, predicted, scores = (
            np.array([image[key] for image in images]) for key in ('label', 'predicted', 'score')
        )
        if len(classes) <= MAX_CLASSES:
            matrix = np.zeros((len(classes),) * 2, int)
            np.add.at(matrix, (labels, predicted), 1)
            part['confusion'] = draw_confusion(matrix, classes)
        part['pairs'] = most_confused(labels, predicted, classes)
        part['reliability'] = draw_reliability(scores, labels == predicted)
    per_class = found.get('per_class', {})
    if per_class.get('figures'):
        part['unit'] = per_class['unit']
        part['per_class'] = sorted(
            zip(classes, per_class['figures']), key=lambda row: -1 if row[1] is None else row[1]
        )
    drawn = sorted((i for i in images if 'drawn' in i), key=lambda image: -image['error'])
    half = max(1, num_samples // 2)
    rest = drawn[half:]
    drawn = [*drawn[:half], *rest[:: max(1, -(-len(rest) // half))]]
    sizes = np.cumsum([len(str(image['drawn'])) for image in drawn])
    drawn = drawn[: int((sizes <= MAX_BYTES * num_samples // MAX_SAMPLES).sum())]
    part.update(
        samples=[describe_sample(image, classes) for image in drawn],
        classes=classes,
        palette=found.get('palette', []),
    )
    return part


def most_confused(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Pairs of true and predicted class, the most frequent first."""
    pairs = sorted((true, guess) for true, guess in zip(labels, predicted) if true != guess)
    most = Counter(pairs).most_common(MAX_PAIRS)
    return [(classes[true], classes[guess], count) for (true, guess), count in most]


def describe_sample(image: dict, classes: Sequence[str]) -> dict:
    """What a card of the page says of an image."""
    drawn = image['drawn']
    if 'label' in image:
        true, guess = classes[image['label']], classes[image['predicted']]
        kinds, right = [image['label']], image['label'] == image['predicted']
        text = f'{true}: seen as {guess} ({image["score"]:.2f}), loss {image["error"]:.2f}'
    elif 'boxes' in drawn:
        kinds = sorted({int(box[4]) for box in drawn['true_boxes']})
        right = image['error'] == 0
        text = f'{image["missed"]} missed, {image["false"]} false'
    else:
        kinds, right = image['kinds'], image['error'] == 0
        text = f'{image["error"]:.1%} of the pixels wrong'
    return dict(image, text=text, right=right, kinds=f' {" ".join(map(str, kinds))} ')


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and np.isfinite(value)
