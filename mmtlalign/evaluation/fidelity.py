"""Do shares say what a model does with a mix, and what there is to see?

Two questions, asked of mixes of equal area, since all shares know that:

- *faithful*: does a share follow the model's own *answer*, the probability of the own label over
  that of both labels, and the *ablation*, how far what the head reads moves without the own image,
  over how far it moves without either (the training data's mean colour takes its place)?
- *true*: does it follow the *truth*, the visible pixels of the own object over those of both, where
  masks tell?
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor

from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.families import build_family
from mmtlalign.errors import UserError
from mmtlalign.models.batch_augments import MixRecord
from mmtlalign.models.targets import attended_share, visible_share

# What a share is read from: arguments of the trace; None is no trace.
SHARES = {
    'area': None,
    'tlalign': dict(propagation='tlalign'),
    'contribution': dict(propagation='contribution'),
    'contribution-norm': dict(propagation=dict(type='contribution', measure='norm')),
    'attention': dict(propagation='tlalign'),
}
REFERENCES = ('answer', 'ablation', 'truth')
MAX_SIDES = 7


class Pairs(NamedTuple):
    """Images to mix, each in one pair only, and the boxes to do it with.

    Attributes:
        images (Tensor): (P, 2), indices of images of different classes.
        shares (Tensor): (P, R, 2, rows, cols): R times for each pair, what
            either image keeps when the other is pasted into it.
    """

    images: Tensor
    shares: Tensor

    @property
    def mixes(self) -> int:
        """int: How many there are, R of each image."""
        return self.shares.size(1) * self.images.numel()


def draw_pairs(
    labels: list[int], grid: tuple[int, int], count: int, generator: torch.Generator
) -> Pairs:
    """Pair images of different classes and draw boxes on the grid.

    Boxes have the grid's proportions, one of up to seven sizes, and lie anywhere inside, so that
    many mixes are of equal area.

    Args:
        labels (list[int]): Of all images.
        grid (tuple[int]): Rows and columns of patches.
        count (int): Mixes wanted, about: each pair gives two, or as many more as come nearest.
        generator (torch.Generator): Where all draws come from.

    Raises:
        UserError: If all images are of one class, or the grid is too small.
    """
    order = torch.randperm(len(labels), generator=generator)
    halves = order[: len(order) // 2 * 2].view(-1, 2)
    classes = torch.tensor(labels)
    images = halves[classes[halves[:, 0]] != classes[halves[:, 1]]]
    images = images[: -(-count // 2)]
    if not len(images):
        raise UserError(
            f'no two of {len(labels)} test images, paired at random, are of different classes; '
            'give more'
        )
    if min(grid) < 2:
        raise UserError(
            f'patches lie on a grid of {grid}, which no box divides; give larger images'
        )
    times = max(round(count / (2 * len(images))), 1)
    boxes = [draw_box(grid, generator) for _ in range(len(images) * times * 2)]
    return Pairs(images, torch.stack(boxes).view(len(images), times, 2, *grid))


def draw_box(grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(rows, cols): 0 inside a box and 1 outside."""
    rows, cols = grid
    sides = np.unique(np.linspace(1, rows - 1, min(rows - 1, MAX_SIDES)).round().astype(int))

    def index(end: int) -> int:
        return torch.randint(end, (), generator=generator).item()

    height = int(sides[index(len(sides))])
    width = min(max(round(height * cols / rows), 1), cols - 1)
    top, left = index(rows - height + 1), index(cols - width + 1)
    share = torch.ones(grid)
    share[top : top + height, left : left + width] = 0
    return share


class Measured(NamedTuple):
    """What was read of N mixes, all from 0 to 1.

    Attributes:
        shares (dict[str, np.ndarray]): (blocks, N) each, as the head would read them after every
            block; one block only where there is no more to say.
        references (dict[str, np.ndarray]): (N,) each; NaN where unknown.
        lam (np.ndarray): (N,), areas.
        pair (np.ndarray): (N,), which pair a mix is of.
    """

    shares: dict[str, np.ndarray]
    references: dict[str, np.ndarray]
    lam: np.ndarray
    pair: np.ndarray


class Fidelity:
    """Reads shares and what they may say of a classifier.

    Args:
        model (ImageClassifier): Of mmpretrain, in evaluation mode, with a
            backbone that :class:`LabelTrace` supports.
        shares (Sequence[str], optional): Names of :data:`SHARES`, or of
            other propagations. Defaults to None, all that the backbone can.

    Attributes:
        left_out (dict[str, str]): Of the default ones, those that the backbone cannot, and why.

    Raises:
        TypeError, ValueError: As :class:`LabelTrace`; an unknown share.
    """

    def __init__(self, model, shares=None) -> None:
        self.model = model
        self.left_out: dict[str, str] = {}
        self.traces: dict[str, LabelTrace | None] = {}
        names = shares or list(SHARES)
        # attention first: its trace also tells the share of TL-Align
        for name in sorted(names, key='attention'.__ne__):
            try:
                self.traces[name] = self._trace(name)
            except ValueError as error:
                if shares:
                    raise
                self.left_out[name] = str(error)
        self.names = [name for name in names if name in self.traces]

    def _trace(self, name: str) -> LabelTrace | None:
        arguments = SHARES.get(name, dict(propagation=name))
        if arguments is None:
            return None
        if name == 'tlalign' and 'attention' in self.traces:
            return self.traces['attention']
        backbone, watch = self.model.backbone, None
        if name == 'attention':
            watch = 'class' if build_family(backbone).num_extra_tokens else 'patches'
        merging = getattr(self.model, 'token_merging', None)
        return LabelTrace(backbone, record=True, watch=watch, token_merging=merging, **arguments)

    def grid_of(self, dataset) -> tuple[int, int]:
        """Rows and columns of patches of the first image."""
        images, _ = self._load(dataset, [0])
        with torch.no_grad():
            return LabelTrace(self.model.backbone).grid_of(images)

    @torch.no_grad()
    def measure(self, dataset, pairs: Pairs, batch_size: int = 128) -> Iterator[Measured]:
        """Mix, trace and compare, a batch at a time.

        Args:
            dataset (BaseDataset): Its items are packed: ``inputs`` and ``data_samples``, with
                ``object_mask`` if there is a truth.
            pairs (Pairs): Of its images.
            batch_size (int): Mixes in a forward. Defaults to 128.

        Yields:
            Measured: Of one mixing of ``batch_size // 2`` pairs both ways; :meth:`batches` times.
        """
        size = batch_size // 2
        for start in range(0, len(pairs.images), size):
            chosen = slice(start, start + size)
            images, samples = self._load(dataset, pairs.images[chosen].flatten().tolist())
            for shares in pairs.shares[chosen].unbind(1):
                mixes = Mixes(images, samples, shares.flatten(0, 1))
                index = torch.arange(len(mixes.record.lam)) // 2 + start
                yield self._read(mixes, index)

    @staticmethod
    def batches(pairs: Pairs, batch_size: int = 128) -> int:
        """How often :meth:`measure` yields."""
        return pairs.shares.size(1) * -(-len(pairs.images) // (batch_size // 2))

    def _load(self, dataset, indices) -> tuple[Tensor, list]:
        batch = pseudo_collate([dataset[i] for i in indices])
        data = self.model.data_preprocessor(batch, training=False)
        return data['inputs'], data['data_samples']

    def _read(self, mixes: 'Mixes', index: Tensor) -> Measured:
        shares, feats = self._shares(mixes)
        read = self._what_is_read(feats)
        own, partner = (
            (read - self._what_is_read(self.model.extract_feat(images))).norm(dim=1)
            for images in (mixes.partners, mixes.owns)
        )
        references = dict(
            answer=mixes.answer(self.model.head(feats)), ablation=own / (own + partner)
        )
        if 'object_mask' in mixes.samples[0]:
            references['truth'] = visible_share(mixes.record, mixes.samples, unseen=torch.nan)
        return Measured(
            {name: _numpy(shares[name]) for name in self.names},
            {name: _numpy(value) for name, value in references.items()},
            _numpy(mixes.record.lam),
            index.numpy(),
        )

    def _shares(self, mixes: 'Mixes') -> tuple[dict[str, Tensor], tuple]:
        """Shares (blocks, N), and the features, one forward a trace."""
        shares, feats = {'area': mixes.record.lam[None]}, None
        # in one order, as the features are the last one's
        for trace in dict.fromkeys(filter(None, self.traces.values())):
            with trace(mixes.record.token_share):
                feats = self.model.backbone(mixes.mixed)
            for name in self.names:
                if name == 'attention' and self.traces[name] is trace:
                    shares[name] = attended_share(mixes.record, trace)[None]
                elif self.traces[name] is trace:
                    shares[name] = torch.stack([trace.read(s) for s in trace.block_shares])
        if feats is None:
            return shares, self.model.extract_feat(mixes.mixed)
        return shares, (self.model.neck(feats) if self.model.with_neck else feats)

    def _what_is_read(self, feats: tuple) -> Tensor:
        """(N, C), what the head's last layer is given."""
        read = self.model.head.pre_logits(feats)
        return read if isinstance(read, Tensor) else torch.cat(read, dim=1)


class Mixes:
    """Mixes of neighbours in a batch: 0 with 1, 1 with 0, 2 with 3, ...

    Args:
        images (Tensor): (N, C, H, W), normalised.
        samples (list[DataSample]): Of the images.
        token_share (Tensor): (N, rows, cols).

    Attributes:
        mixed (Tensor): Like ``images``.
        owns, partners (Tensor): Likewise, the mean colour in place of the other image.
        record (MixRecord): What was mixed with what.
    """

    def __init__(self, images: Tensor, samples: list, token_share: Tensor) -> None:
        self.samples = samples
        self.record = MixRecord(
            torch.arange(len(images)) ^ 1, token_share, token_share.mean((1, 2))
        )
        kept = F.interpolate(token_share[:, None], images.shape[2:])
        kept = kept.to(images)
        self.owns = kept * images
        self.partners = (1 - kept) * images[self.record.partner]
        self.mixed = self.owns + self.partners

    def answer(self, scores: Tensor) -> Tensor:
        """(N,), probability of the own label over that of both."""
        labels = torch.cat([sample.gt_label for sample in self.samples])
        own = labels.to(scores.device)[:, None]
        partner = own[self.record.partner]
        return (scores.gather(1, own) - scores.gather(1, partner))[:, 0].sigmoid()


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


def join(parts: list[Measured]) -> Measured:
    """All batches as one."""
    shares, references, lam, pair = zip(*parts)

    def joined(dicts) -> dict:
        return {name: np.concatenate([d[name] for d in dicts], axis=-1) for name in dicts[0]}

    return Measured(joined(shares), joined(references), np.concatenate(lam), np.concatenate(pair))


def summarize(measured: Measured, draws: int = 1000, seed: int = 0) -> dict:
    """How every share follows every reference, with intervals.

    Args:
        measured (Measured): Of all mixes.
        draws (int): Of the bootstrap over pairs of images. Defaults to 1000.
        seed (int): Of the bootstrap; the same pairs get the same draws. Defaults to 0.

    Returns:
        dict: share -> 'movement', the mean of ``|share - lam|`` after each block, and reference ->
        'correlation' and 'distance' after each block, lists of (value, low, high), 95 % intervals,
        None where nothing is known; the model's own answer is held against the truth as if it were
        a share.
    """
    weights = bootstrap_weights(measured.pair, draws, seed)
    shares, found = dict(measured.shares), {}
    if 'truth' in measured.references:
        shares['answer'] = measured.references['answer'][None]
    for name, share in shares.items():
        found[name] = dict(movement=np.abs(share - measured.lam).mean(1).tolist())
        for reference, values in measured.references.items():
            if reference != name:
                found[name][reference] = compare(share, values, measured, weights)
    return found


def compare(
    shares: np.ndarray, reference: np.ndarray, measured: Measured, weights: np.ndarray
) -> dict:
    """Correlation within equal area, and root mean square distance, of shares (blocks, N)."""
    found = dict(correlation=[], distance=[])
    for share in shares:
        n, x, y, xx, yy, xy = area_sums(share, reference, measured.lam, measured.pair, weights)
        within = [
            np.where(n > 0, a - b * c / np.maximum(n, 1), 0).sum(1)
            for a, b, c in ((xy, x, y), (xx, x, x), (yy, y, y))
        ]
        with np.errstate(invalid='ignore', divide='ignore'):
            varies = within[1] > 1e-9 * np.maximum(xx.sum(1), 1)
            still = np.where(n.sum(1) > 0, 0, np.nan)  # as the area's, of mixes there are
            correlation = np.where(varies, within[0] / np.sqrt(within[1] * within[2]), still)
            square = (xx - 2 * xy + yy).sum(1) / n.sum(1)
        found['correlation'].append(estimate(correlation))
        found['distance'].append(estimate(np.sqrt(square.clip(0))))
    return found


def area_sums(
    x: np.ndarray, y: np.ndarray, lam: np.ndarray, pair: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sums by area: (6, draws, areas) of 1, x, y, xx, yy and xy."""
    known = ~np.isnan(y)
    x, y, pair = x[known], y[known], pair[known]
    areas, area = np.unique(lam[known].round(6), return_inverse=True)
    sums = np.zeros((6, weights.shape[1], len(areas)))
    for total, values in zip(sums, (np.ones_like(x), x, y, x * x, y * y, x * y)):
        np.add.at(total, (pair, area), values)
    return weights @ sums


def bootstrap_weights(pair: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """How often each pair is drawn: (1 + draws, pairs); first, once each."""
    count = int(pair.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones((1, count)), drawn])


def estimate(values: np.ndarray) -> list[float | None]:
    """The value of all pairs, and 95 % of those drawn; None where there is none."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(drawn):
        return [None] * 3
    return [float(values[0]), *np.percentile(drawn, [2.5, 97.5]).tolist()]
