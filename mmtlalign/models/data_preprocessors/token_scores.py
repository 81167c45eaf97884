"""From stored top-k maps to the scores of the tokens of a crop."""

import torch
from torch import Tensor
from torchvision.ops import roi_align


def expand_maps(ids: Tensor, scores: Tensor, num_classes: int, score_mode: str) -> Tensor:
    """Write out maps of the top k classes: (B, K, rows, cols), float32, logits or probabilities.

    Of probabilities 1 / K is subtracted, so that positions outside a map, which RoIAlign reads as
    0, become even scores: see :func:`crop_scores`.

    Args:
        ids (Tensor): (B, rows, cols, k), integers.
        scores (Tensor): (B, rows, cols, k): 'probs' or 'logits'.
        num_classes (int): Number of classes, K.
        score_mode (str): 'probs': what is missing to 1 belongs evenly to the other classes.
            'logits': the others have logit 0.
    """
    scores, others = scores.float(), 0.0
    if score_mode == 'probs':
        total = scores.sum(dim=-1, keepdim=True)
        k = ids.size(-1)
        if k < num_classes:  # half precision may round a sum to above 1
            scores = scores / total.clamp(min=1)
            others = (1 - total).clamp(min=0) / (num_classes - k)
        else:
            scores = scores / total
        scores, others = scores - 1 / num_classes, others - 1 / num_classes
    maps = scores.new_zeros(*ids.shape[:-1], num_classes) + others
    maps.scatter_(-1, ids.long(), scores)
    return maps.permute(0, 3, 1, 2).contiguous()


def crop_scores(maps: Tensor, boxes: Tensor, size: tuple[int, int], score_mode: str) -> Tensor:
    """Probabilities in the cells of a grid over a box of each map: (B, N, K), float32.

    RoIAlign with ``aligned=True`` and as many samples per cell as it covers cells of the map: over
    the whole map, a grid of its own size returns the map itself.

    Args:
        maps (Tensor): (B, K, rows, cols), from :func:`expand_maps`.
        boxes (Tensor): (B, 4): x1, y1, x2, y2 in cells of the map, where cell 0 reaches from 0 to
            1. What lies a cell or more outside counts as even scores.
        size (tuple[int]): Rows and columns of the grid, N cells.
        score_mode (str): 'probs' or 'logits'.
    """
    index = torch.arange(len(maps), device=maps.device)[:, None]
    rois = torch.cat((index.to(boxes), boxes), dim=1)
    cells = roi_align(maps, rois.to(maps), size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    cells = cells.flatten(2).transpose(1, 2)
    if score_mode == 'probs':
        return cells + 1 / maps.size(1)
    return cells.softmax(dim=-1)
