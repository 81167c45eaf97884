"""What the last validation predicted, kept for the report of a run."""

import json
import os.path as osp
from heapq import heappush, heappushpop
from numbers import Number

import numpy as np
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtlalign.evaluation.predictions import draw, measure, per_class
from mmtlalign.output_files import write_whole
from mmtlalign.registry import HOOKS

from .peak_memory import peak_of_process

PREDICTIONS = 'predictions.json'  # in the work dir
NOT_FOR_FILES = ('found', 'truth', 'areas')


@HOOKS.register_module()
class KeepPredictions(Hook):
    """Write what each validation predicted to ``predictions.json``.

    A later validation replaces an earlier one. Every image has its numbers there, 64 a small
    picture, too: half of them those with the largest error, half evenly spread over the others.
    ``tools/train.py`` registers this hook, unless told not to; ``mmtlalign report`` reads the file.

    Args:
        is_rgb (bool): Whether the validation images have red first. Defaults to False.
        num_samples (int): Pictures. Defaults to 64.
    """

    def __init__(self, is_rgb: bool = False, num_samples: int = 64) -> None:
        self.is_rgb, self.half = is_rgb, num_samples // 2

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget the validation before."""
        self._entries: list[dict | None] = []
        self._worst: list[tuple[float, int]] = []
        meta = runner.val_dataloader.dataset.metainfo
        self._classes = [str(name) for name in meta.get('classes') or ()]
        colours = meta.get('palette')
        if not isinstance(colours, (list, tuple)) or len(colours) < len(self._classes):
            colours = np.random.default_rng(0).integers(40, 256, (len(self._classes), 3))
        self._palette = np.array(colours)
        self._step = max(1, len(runner.val_dataloader.dataset) // runner.world_size // self.half)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Measure the images of a batch, and draw some."""
        for image, sample in zip(data_batch['inputs'], outputs):
            place = len(self._entries)
            if not self._classes and 'pred_score' in sample:  # the data set names none
                self._classes = [str(k) for k in range(len(sample.pred_score))]
            entry = measure(sample, self._classes)
            self._entries.append(entry)
            if entry and self._is_drawn(entry['error'], place):
                entry['drawn'] = draw(image, sample, self.is_rgb, self._palette)

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        """Write what all processes have found."""
        size = len(runner.val_dataloader.dataset)
        entries = collect_results(self._entries, size, device='cpu')
        if entries is None:  # not the first process
            return
        entries = [entry for entry in entries if entry]
        unit, figures = per_class(entries, len(self._classes))
        # of all that processes have drawn, the worst and a spread are kept
        drawn = sorted((e for e in entries if 'drawn' in e), key=lambda e: -e['error'])
        rest = drawn[self.half :]
        step = max(1, len(rest) // self.half)
        for i, entry in enumerate(rest):
            if i % step or i // step >= self.half:
                del entry['drawn']
        content = dict(
            epoch=runner.epoch,
            iter=runner.iter,
            classes=self._classes,
            palette=self._palette.tolist(),
            metrics={key: float(v) for key, v in (metrics or {}).items() if _is_number(v)},
            per_class=dict(unit=unit, figures=figures),
            peak_memory_mib=int(peak_of_process()),
            images=[{k: v for k, v in e.items() if k not in NOT_FOR_FILES} for e in entries],
        )
        path = osp.join(runner.work_dir, PREDICTIONS)
        write_whole(path, json.dumps(content, default=float))

    def _is_drawn(self, error: float, place: int) -> bool:
        """Whether an image is one of those to see, of this process, so far."""
        if place % self._step == 0:
            return True
        if len(self._worst) < self.half:
            heappush(self._worst, (error, place))
            return True
        _, dropped = heappushpop(self._worst, (error, place))
        if dropped != place:
            del self._entries[dropped]['drawn']
        return dropped != place


def _is_number(value) -> bool:
    """Some metrics are matrices, or a figure for each class."""
    return isinstance(value, Number) or getattr(value, 'ndim', None) == 0
