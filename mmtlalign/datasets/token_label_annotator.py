"""Token labels from a classifier that is applied to every position."""

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dataset import BaseDataset, default_collate
from mmpretrain.models import GlobalAveragePooling, LinearClsHead
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmtlalign.errors import UserError

from .token_label_store import TokenLabelStore

TOLERANCE = 1e-4
NUM_JUDGED = 1000  # images whose labels the annotator is held against


class TokenLabelAnnotator:
    """A classifier whose linear layer scores every position of its map.

    Args:
        model (nn.Module): Ends in the host's ``GlobalAveragePooling`` and ``LinearClsHead``.
        batch_size (int): Defaults to 64.
        num_workers (int): Processes that load images. Defaults to 0.

    Raises:
        UserError: If the model is made of anything else.
    """

    def __init__(self, model: nn.Module, batch_size: int = 64, num_workers: int = 0) -> None:
        neck, head = getattr(model, 'neck', None), getattr(model, 'head', None)
        self.model, self.batch_size, self.num_workers = model.eval(), batch_size, num_workers
        if not (
            type(neck) is GlobalAveragePooling
            and isinstance(head, LinearClsHead)
            and type(head).forward is LinearClsHead.forward
        ):
            raise self._refusal(
                f'its neck is {type(neck).__name__} and its head {type(head).__name__}'
            )

    def _refusal(self, why: str) -> UserError:
        backbone = type(getattr(self.model, 'backbone', self.model)).__name__
        return UserError(
            f'the annotator ({backbone}) cannot score single positions: {why}; '
            'take one whose feature map goes through GlobalAveragePooling and '
            'LinearClsHead alone, such as a ResNet or Swin'
        )

    def batches(self, dataset: BaseDataset, rows: np.ndarray) -> Iterator[tuple]:
        """Images of some rows: their numbers, samples, and normalised inputs."""
        images: Subset = Subset(dataset, rows.tolist())
        options = dict(num_workers=self.num_workers, collate_fn=default_collate)
        loader: DataLoader = DataLoader(images, self.batch_size, **options)
        parts = np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        for part, data in zip(parts, loader):
            inputs = self.model.data_preprocessor(data, training=False)['inputs']
            yield part, data['data_samples'], inputs

    @torch.no_grad()
    def position_scores(self, inputs: Tensor) -> Tensor:
        """Logits of every position, (B, rows, cols, num_classes)."""
        feats = self.model.backbone(inputs)[-1]
        if feats.ndim != 4:
            raise self._refusal(
                f'its backbone gives features of shape {tuple(feats.shape)}, and no map'
            )
        return self.model.head.fc(feats.movedim(1, -1))

    @torch.no_grad()
    def find_grid(self, dataset: BaseDataset) -> tuple[int, int]:
        """Rows and columns of the maps.

        Raises:
            UserError: If a map does not average to what the model predicts.
        """
        _, _, inputs = next(self.batches(dataset, np.arange(len(dataset))))
        scores, expected = self.position_scores(inputs), self.model(inputs)
        gap = (scores.mean((1, 2)) - expected).abs().max().item()
        if not gap <= TOLERANCE * max(1, expected.abs().max().item()):
            raise self._refusal(
                f'the mean of its positions differs from its own logits by {gap:.1e}'
            )
        return scores.size(1), scores.size(2)

    def judge(self, dataset: BaseDataset, force: bool = False) -> dict | None:
        """Hold the annotator against the labels of images, and print it.

        It is no better than chance if the mean over classes of the part it gets right is at most
        three standard deviations above one over the number of classes; a mean over classes, so that
        naming the most frequent one always is no merit.

        Args:
            dataset (BaseDataset): Up to 1000 images of it are drawn.
            force (bool): Accept any. Defaults to False.

        Returns:
            dict: ``top1`` in per cent and ``images``; None without labels.

        Raises:
            UserError: If it is no better than chance, unless forced.
        """
        rows = np.random.default_rng(0).permutation(len(dataset))[:NUM_JUDGED]
        judged: list[tuple[int, bool]] = []  # label, whether it was found
        for _, samples, inputs in self.batches(dataset, np.sort(rows)):
            scores = self.position_scores(inputs).mean((1, 2))
            for sample, label in zip(samples, scores.argmax(1)):
                if 'gt_label' in sample:
                    own = sample.gt_label.item()
                    judged.append((own, own == label.item()))
        if not judged:
            print('annotator: not held against labels, as the images have none')
            return None
        labels, right = map(np.array, zip(*judged))
        classes, counts = np.unique(labels, return_counts=True)
        mean = np.mean([right[labels == label].mean() for label in classes])
        chance = 1 / self.model.head.num_classes
        deviation = (chance * (1 - chance) * sum(1 / counts)) ** 0.5 / len(classes)
        said = (
            f'top-1 {100 * right.mean():.2f} % on {len(labels)} labelled images, mean over '
            f'classes {100 * mean:.2f} %, chance {100 * chance:.2f} %'
        )
        print('annotator:', said)
        if mean <= chance + 3 * deviation and not right.all() and not force:
            raise UserError(
                f'the annotator is no better than chance ({said}; up to '
                f'{100 * (chance + 3 * deviation):.2f} % can be luck): give the one of these '
                'classes, with the config it was trained with, or --force'
            )
        return dict(top1=100 * right.mean().item(), images=len(labels))

    def annotate(
        self, dataset: BaseDataset, store: TokenLabelStore, part: int = 0, parts: int = 1
    ) -> Iterator[int]:
        """Make the maps of a data set that are not done; yields how many.

        Args:
            dataset (BaseDataset): That the store was made for.
            store (TokenLabelStore): Open for writing.
            part (int): Which of the parts to make. Defaults to 0.
            parts (int): Processes at work. Defaults to 1.
        """
        # Whose a row is must not depend on what the others have done by now.
        rows = np.arange(part, len(store), parts)
        for rows, _, inputs in self.batches(dataset, rows[~store.done[rows]]):
            scores = self.position_scores(inputs).float()
            if store.index['score_mode'] == 'probs':
                scores = scores.softmax(dim=-1)
            scores, ids = scores.topk(store.index['top_k'], dim=-1)
            store.write(rows, ids.cpu().numpy(), scores.cpu().numpy())
            yield len(rows)
