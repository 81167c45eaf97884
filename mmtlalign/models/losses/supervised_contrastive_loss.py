"""Supervised contrastive loss (arXiv 2004.11362), as LaCViT uses it."""

from functools import partial

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather as all_gather_grad
from torch.utils.checkpoint import checkpoint

from mmtlalign.errors import UserError
from mmtlalign.registry import MODELS


@MODELS.register_module()
class SupervisedContrastiveLoss(nn.Module):
    r"""Pull features of one class together, push all others apart.

    With L2-normalised features :math:`z`, a temperature :math:`\tau` and :math:`P(i)` the other
    features with the label of :math:`i`,

    .. math::
        L = \operatorname{mean}_i \frac{-1}{|P(i)|} \sum_{j \in P(i)} \log
        \frac{\exp(z_i \cdot z_j / \tau)}
        {\sum_{k \neq i} \exp(z_i \cdot z_k / \tau)}

    where :math:`i` runs over the features with a non-empty :math:`P(i)`; the others are skipped and
    counted. Similarities are computed in float32 whatever the precision of the features.

    With several processes, :math:`j` and :math:`k` run over the features of all of them. Each
    process computes the rows of its own features, and the gradient also flows through those of the
    others: averaged over processes, as DDP does, loss and gradients are those of one process with
    all images. Every process must hold equally many features, which the host's sampler sees to.

    Args:
        temperature (float): Defaults to 0.1.
        base_temperature (float, optional): If given, the loss is multiplied by ``temperature /
            base_temperature``; 0.07 reproduces LaCViT's published code. Defaults to None, no
            factor, as in its paper.
        chunk_size (int, optional): Compute this many rows of the similarity matrix at a time, and
            once more for the gradient, so that it is never held as a whole. Defaults to None, all
            at once.

    Raises:
        UserError: If an argument is not above 0, or no feature of a batch shares its label with
            another.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        base_temperature: float | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in dict(
            temperature=temperature, base_temperature=base_temperature, chunk_size=chunk_size
        ).items():
            if value is not None and value <= 0:
                raise UserError(
                    f'SupervisedContrastiveLoss({name}={value}) is impossible: it must be above 0'
                )
        self.temperature = temperature
        self.base_temperature = base_temperature or temperature
        self.chunk_size = chunk_size

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of this process's features among those of all, and how many of all were skipped.

        Args:
            features (Tensor): (N, C), the projected views of this process.
            labels (Tensor): (N, ), int64.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = F.normalize(features.float(), dim=1)
            everyone, all_labels = self._gather(features, labels)
            _, group, count = all_labels.unique(return_inverse=True, return_counts=True)
            paired = count[group] > 1
            if not paired.any():
                raise UserError(
                    f'no two of the {len(all_labels)} features of a batch share a label, so '
                    'there is nothing to contrast; train on two views (MultiView with '
                    'num_views=2), or raise train_dataloader.batch_size'
                )
            index = get_rank() * len(features) + torch.arange(len(features), device=features.device)
            index = index[paired[index]]
            if self.chunk_size is None:
                losses = self._rows(everyone, all_labels, index)
            else:
                chunks = index.split(self.chunk_size)
                rows = partial(checkpoint, self._rows, everyone, all_labels, use_reentrant=False)
                losses = torch.cat([rows(chunk) for chunk in chunks])
            # The mean over all rows, once DDP has averaged the processes
            loss = losses.sum() * get_world_size() / paired.sum()
            return (loss * self.temperature / self.base_temperature, (~paired).sum())

    @staticmethod
    def _gather(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and labels of all processes, in the order of ranks."""
        if get_world_size() == 1:
            return features, labels
        # Its backward sums the gradients of all processes. mmpretrain's
        # GatherLayer keeps the own one only, which is another gradient.
        return (torch.cat(all_gather_grad(features)), torch.cat(all_gather(labels)))

    def _rows(self, everyone: Tensor, all_labels: Tensor, index: Tensor) -> Tensor:
        """Losses (len(index), ), each from a row of similarities."""
        others = torch.ones(len(index), len(everyone), dtype=torch.bool, device=index.device)
        others.scatter_(1, index[:, None], False)
        positive = others & (all_labels[index, None] == all_labels)
        similarity = everyone[index] @ everyone.T / self.temperature
        every = similarity.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
        return -((similarity - every) * positive).sum(1) / positive.sum(1)
