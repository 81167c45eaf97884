"""TL-Align (arXiv 2210.06455) around any supported backbone."""
from typing import List, Optional

import torch
from mmpretrain.models import (
    ClsHead,
    DistilledVisionTransformer,
    ImageClassifier,
)
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.alignment import LabelTrace
from mmtlalign.registry import MODELS

from ..data_preprocessors import TLAlignDataPreprocessor


@MODELS.register_module()
class TLAlignClassifier(ImageClassifier):
    """The host's classifier, trained on labels that follow the tokens.

    Parameters, prediction and checkpoints are those of
    :class:`mmpretrain.models.ImageClassifier`. Training logs ``lam``,
    ``aligned_share`` and ``token_fluctuation``, the mean of ``|share -
    lam|``.

    Args:
        backbone (dict): A backbone of :data:`mmtlalign.alignment.RULES`.
        neck (dict, optional): As in the host. Defaults to None.
        head (dict): One of the ``mmtlalign`` heads.
        aligned (bool): Train on aligned labels. False trains on area labels
            in the same pipeline and runs no trace: the baseline. Defaults to
            True.
        monitor (bool): With ``aligned=False``, trace all the same, for the
            log only. Defaults to False.
        train_cfg (dict, optional): ``augments`` and ``probs`` of
            :class:`RandomMix`. Defaults to None, which mixes nothing.
        data_preprocessor (dict, optional): Arguments of
            :class:`TLAlignDataPreprocessor`, which is its default type.
        **kwargs: Other arguments of the host's classifier.

    Raises:
        TypeError: A data preprocessor, backbone or head that cannot be used.
    """

    def __init__(self,
                 backbone: dict,
                 neck: Optional[dict] = None,
                 head: Optional[dict] = None,
                 aligned: bool = True,
                 monitor: bool = False,
                 train_cfg: Optional[dict] = None,
                 data_preprocessor: Optional[dict] = None,
                 **kwargs) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            data_preprocessor = {
                'type': 'mmtlalign.TLAlignDataPreprocessor',
                'batch_augments': train_cfg,
                **(data_preprocessor or {})
            }
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            **kwargs)
        if not isinstance(self.data_preprocessor, TLAlignDataPreprocessor):
            raise TypeError(
                f'{type(self.data_preprocessor).__name__} leaves no record of '
                'what it mixed; leave out `type` in data_preprocessor, or set '
                "it to 'mmtlalign.TLAlignDataPreprocessor'.")
        if self.data_preprocessor.batch_augments is not None:
            _refuse_stock_loss(self.head)
        _refuse_two_tokens(self.backbone)
        self.aligned = aligned
        self.trace = LabelTrace(self.backbone) if aligned or monitor else None

    def loss(self, inputs: Tensor, data_samples: List[DataSample]) -> dict:
        """Loss of mixed images.

        Args:
            inputs (Tensor): (B, C, H, W).
            data_samples (list[DataSample]): As left by
                :class:`TLAlignDataPreprocessor`.

        Returns:
            dict[str, Tensor]: ``loss`` and the quantities to log.
        """
        if 'token_share' not in data_samples[0]:
            return super().loss(inputs, data_samples)
        lam = torch.stack([sample.lam for sample in data_samples])
        lam = lam.to(inputs.device, non_blocking=True)
        if self.trace is None:
            feats = self.extract_feat(inputs)
            losses = self.head.loss(feats, data_samples, share=lam)
            return dict(**losses, lam=lam.mean())
        token_share = torch.stack(
            [sample.token_share for sample in data_samples])
        with self.trace(token_share):
            feats = self.extract_feat(inputs)
        share = self.trace.output_share
        losses = self.head.loss(
            feats, data_samples, share=share if self.aligned else lam)
        return dict(
            **losses,
            lam=lam.mean(),
            aligned_share=share.mean(),
            token_fluctuation=(share - lam).abs().mean())


def _refuse_stock_loss(head: Optional[nn.Module]) -> None:
    """Raise TypeError if a head would hand shares on to its loss module."""
    if getattr(type(head), '_get_loss', None) is ClsHead._get_loss:
        raise TypeError(
            f'{type(head).__name__} cannot be trained on shares; set the type '
            "of the head to 'mmtlalign.TLAlignVisionTransformerClsHead' or "
            "'mmtlalign.TLAlignLinearClsHead'.")


def _refuse_two_tokens(backbone: nn.Module) -> None:
    """Raise TypeError for a distilled ViT that puts out a pair of tokens."""
    if (isinstance(backbone, DistilledVisionTransformer)
            and backbone.out_type == 'cls_token'):
        raise TypeError(
            f'{type(backbone).__name__} puts out two tokens, and mmpretrain '
            'has no head that trains on them; use VisionTransformer, or '
            "another out_type such as 'avg_featmap'.")
