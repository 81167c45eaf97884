"""One way to predict, whatever the task, through the hosts' inferencers."""

from collections.abc import Callable
from tempfile import TemporaryDirectory

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmtlalign.apis.channel_order import for_files
from mmtlalign.checkpoint import get_weights, hand_to_host, load_checkpoint_safely, load_strictly
from mmtlalign.host_check import check_device, check_host

from .model import get_model

# Pixels of the short side that a small image is enlarged to, so that a label
# on it can be read, and of the long side that none is enlarged beyond.
SHORT_SIDE, LONG_SIDE = 224, 896

# Reads an image; gives a picture (H, W, 3), uint8, RGB, and the prediction in a few words.
Predict = Callable[[str], tuple[np.ndarray, str]]


def build_inference(
    cfg: Config,
    checkpoint: str,
    device: str | None = None,
    score_thr: float = 0.3,
    trust: bool = False,
) -> Predict:
    """Load a checkpoint, safely and strictly, for what its config is.

    Args:
        cfg (Config): Its ``default_scope`` tells the task; may be modified.
        checkpoint (str): File or http(s) address.
        device (str, optional): Defaults to None, a GPU if there is one.
        score_thr (float): Least score of an object to be shown; only for
            detectors. Defaults to 0.3.
        trust (bool): Also load checkpoints that hold more than weights, which
            may run code. Defaults to False.

    Returns:
        callable: Takes the path of an image that can be read; returns a
        picture (H, W, 3), uint8, RGB, and the prediction in a few words.

    Raises:
        UserError: If the host is not installed, there is no such device, or
            the checkpoint is unsafe or does not fit.
    """
    check_host(cfg)
    check_device(device)
    host = cfg.get('default_scope', 'mmpretrain')
    init_default_scope(host)  # as the two others do, for their pipelines
    cfg = for_files(cfg)
    if host not in ('mmdet', 'mmseg'):
        return Classification(cfg, checkpoint, device, trust)
    # what the host is about to read itself
    hand_to_host(checkpoint, load_checkpoint_safely(checkpoint, trust))
    if host == 'mmdet':
        return Detection(cfg, checkpoint, device, score_thr)
    return Segmentation(cfg, checkpoint, device)


class Classification:
    """Pictures carry the class and its score; small ones are enlarged."""

    def __init__(self, cfg, checkpoint, device, trust):
        from mmpretrain.apis import ImageClassificationInferencer

        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.host = ImageClassificationInferencer(get_model(cfg, checkpoint, device, trust=trust))

    def __call__(self, path):
        # The steps of the host's own call, less its progress bar.
        (batch,) = self.host.preprocess([path])
        preds = self.host.forward(batch)
        (result,) = self.host.postprocess(preds, None)
        size = mmcv.imread(path).shape[:2]
        scale = min(SHORT_SIDE / min(size), LONG_SIDE / max(size))
        with TemporaryDirectory() as folder:  # else it draws nothing
            (picture,) = self.host.visualize(
                [path], preds, show_dir=folder, rescale_factor=max(scale, 1)
            )
        name = result.get('pred_class', f'class {result["pred_label"]}')
        return picture, f'{name} ({result["pred_score"]:.2f})'


class Detection:
    """Pictures carry boxes, and masks if there are any."""

    def __init__(self, cfg, checkpoint, device, score_thr):
        from mmdet.apis import DetInferencer

        cfg.setdefault('visualizer', dict(type='DetLocalVisualizer'))
        self.score_thr = score_thr
        self.host = build_strictly(DetInferencer, cfg, checkpoint, device)

    def __call__(self, path):
        result = self.host(path, return_vis=True, pred_score_thr=self.score_thr)
        scores = np.array(result['predictions'][0]['scores'])
        count = int((scores >= self.score_thr).sum())
        return (result['visualization'][0], f'{count} objects of score {self.score_thr} or more')


class Segmentation:
    """Pictures carry the classes of the pixels."""

    def __init__(self, cfg, checkpoint, device):
        from mmseg.apis import MMSegInferencer

        cfg.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        self.host = build_strictly(MMSegInferencer, cfg, checkpoint, device)

    def __call__(self, path):
        result = self.host(path, return_vis=True)
        names = self.host.model.dataset_meta['classes']
        labels, counts = np.unique(result['predictions'], return_counts=True)
        largest = counts.argsort()[::-1][:3]
        return result['visualization'], ', '.join(
            f'{names[labels[i]]} {counts[i] / counts.sum():.0%}' for i in largest
        )


def build_strictly(inferencer: type, cfg: Config, path: str, device: str | None):
    """A host's inferencer that does not run on weights that do not fit."""

    class Strict(inferencer):
        def _load_weights_to_model(self, model, checkpoint, cfg):
            load_strictly(model, get_weights(checkpoint, path), path)
            super()._load_weights_to_model(model, checkpoint, cfg)

    return Strict(cfg, path, device=device, show_progress=False)
