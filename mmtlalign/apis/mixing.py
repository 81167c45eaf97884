"""A mix of two images: where its labels go, and what a classifier says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmtlalign.alignment import LabelTrace
from mmtlalign.errors import UserError

from .channel_order import for_files, trained_order

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class MixTrace:
    """What :func:`trace_mix` has found.

    Args:
        images (list[np.ndarray]): Both, (H, W, 3), RGB in [0, 1], as the model sees them.
        mixed (np.ndarray): (H, W, 3), the first with a box of the second.
        share_maps (dict): Of each propagation, share of each patch, (rows, cols), before the first
            block and after every block.
        output_shares (dict): Likewise, what the head would read there; the first value is the area
            label, the last one the aligned label.
        scores (np.ndarray): (K,), what the model answers.
    """

    images: list[np.ndarray]
    mixed: np.ndarray
    share_maps: dict[str, list[np.ndarray]]
    output_shares: dict[str, list[float]]
    scores: np.ndarray


def trace_mix(
    model: BaseModel,
    batch: dict,
    box: Box | None = None,
    propagations: Sequence[str] = ('tlalign',),
    order: str | None = None,
) -> MixTrace:
    """Paste a box of an image into another and follow the labels.

    Args:
        model (BaseModel): A classifier of :func:`get_model`, on any device.
        batch (dict): Two images, of :func:`load_images`.
        box (tuple, optional): Patches to paste, (yl, yu, xl, xu), half-open.
            Defaults to None, the middle half of both sides.
        propagations (Sequence[str]): Ways to move shares, by name.
        order (str, optional): 'rgb' or 'bgr', of the batch. Defaults to None, what the
            model's ``cfg`` says.

    Returns:
        MixTrace: On the CPU.

    Raises:
        UserError: If the box does not lie on the grid of patches.
        TypeError, ValueError: If no labels move through such a backbone, or not
            in such a way; see :class:`LabelTrace`.
    """
    preprocessor, order = model.data_preprocessor, order or trained_order(model.cfg)
    inputs = preprocessor(batch)['inputs']
    grid = LabelTrace(model.backbone).grid_of(inputs[:1])
    images = inputs.cpu()
    mixed, token_share = paste(images, grid, box)
    seen = mixed.to(inputs.device)
    maps, outputs = {}, {}
    for name in propagations:
        maps[name], outputs[name] = trace(model.backbone, seen, token_share, name)
    with torch.no_grad():
        answer = model.predict(seen[:1])[0]
    return MixTrace(
        list(to_pictures(images, preprocessor, order)),
        to_pictures(mixed[:1], preprocessor, order)[0],
        maps,
        outputs,
        answer.pred_score.cpu().numpy(),
    )


def load_images(cfg: Config, paths: Sequence[str], size: int | None = None) -> dict:
    """Two images, by path, through the config's test pipeline, as a batch.

    They become squares of a ``size`` in pixels afterwards, if one is given.

    Raises:
        UserError: If they end in different sizes.
    """
    from mmpretrain.registry import TRANSFORMS

    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    pipeline = Compose(
        [TRANSFORMS.build(step) for step in for_files(cfg).test_dataloader.dataset.pipeline]
    )
    samples = [pipeline(dict(img_path=path, gt_label=0)) for path in paths]
    if size:
        for sample in samples:
            image = sample['inputs']
            resized = nn.functional.interpolate(image[None].float(), size, mode='area')[0]
            sample['inputs'] = resized.round().to(image.dtype)
    shapes = [tuple(sample['inputs'].shape) for sample in samples]
    if shapes[0] != shapes[1]:
        raise UserError(
            f'{paths[0]} comes out of the test pipeline as {shapes[0]} '
            f'and {paths[1]} as {shapes[1]}; give images of one size.'
        )
    return pseudo_collate(samples)


def paste(images: Tensor, grid: tuple[int, int], box: Box | None) -> tuple[Tensor, Tensor]:
    """Box of image 1 into image 0 and back; shares of the patches."""
    yl, yu, xl, xu = box or [end for n in grid for end in (n // 4, n - n // 4)]
    if not (0 <= yl < yu <= grid[0] and 0 <= xl < xu <= grid[1]):
        raise UserError(
            f'box {yl} {yu} {xl} {xu} does not lie on the grid of {grid[0]} x {grid[1]} patches.'
        )
    share = torch.ones(2, *grid)
    share[:, yl:yu, xl:xu] = 0
    size = images.shape[-2:]
    own = nn.functional.interpolate(share[:, None], size)
    return own * images + (1 - own) * images.flip(0), share


def trace(
    backbone: nn.Module, mixed: Tensor, token_share: Tensor, propagation: str = 'tlalign'
) -> tuple[list[np.ndarray], list[float]]:
    """Share maps and output shares of sample 0, input first."""
    tracer = LabelTrace(backbone, propagation=propagation, record=True)
    with torch.no_grad(), tracer(token_share):
        backbone(mixed)
    maps = [token_share[0].numpy()]
    outputs = [token_share[0].mean().item()]
    for share, (rows, cols) in zip(tracer.block_shares, tracer.block_grids):
        outputs.append(tracer.read(share)[0].item())
        # extra tokens stand before the patches
        maps.append(share[0, -rows * cols :].reshape(rows, cols).cpu().numpy())
    return maps, outputs


def to_pictures(images: Tensor, preprocessor: nn.Module, order: str) -> np.ndarray:
    """Normalised images (B, 3, H, W), 'rgb' or 'bgr' before the preprocessor
    -> RGB (B, H, W, 3) in [0, 1]."""
    pixels = images * preprocessor.std.cpu() + preprocessor.mean.cpu()
    if (order == 'rgb') == preprocessor.to_rgb:  # swapped once, or never
        pixels = pixels.flip(1)
    return (pixels / 255).clamp(0, 1).permute(0, 2, 3, 1).numpy()
