"""TL-Align (arXiv 2210.06455) carried over to label maps."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from mmseg.models import CrossEntropyLoss, EncoderDecoder, accuracy
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmtlalign.alignment import LabelTrace
from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord
from ..targets import LabelTarget
from .mix_data_preprocessor import MixSegDataPreProcessor

PASTING = "the host's EncoderDecoder, which trains on pasted labels."


@MODELS.register_module()
class TLAlignEncoderDecoder(EncoderDecoder):
    """The host's segmentor, trained on label maps that follow the tokens.

    A pixel of a mix is trained on ``share * own + (1 - share) * partner``: what the two images are
    labelled with there, weighed by the share of the backbone's tokens, which is brought to pixels
    as the head's scores are. Where one of the two is ignored, the part of the other is left.

    Parameters, prediction and checkpoints are those of mmseg's ``EncoderDecoder``. Training logs
    ``lam``, the mean ``aligned_share`` of tokens and ``token_fluctuation``, the mean distance to
    what they showed.

    Args:
        backbone (dict): One that :class:`LabelTrace` supports.
        decode_head (dict): Of the host, with cross entropy.
        target (dict): One that weighs tokens. Defaults to :class:`AlignedTokenTarget`;
            :class:`AreaTarget` moves no shares, and merely softens the seams.
        data_preprocessor (dict): A :class:`MixSegDataPreProcessor`.
        **kwargs: Other arguments of the host's segmentor.

    Raises:
        TypeError: A data preprocessor, backbone, head or target that cannot be used.
        ValueError: A head whose loss is not linear in the label.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        target: dict = dict(type='mmtlalign.AlignedTokenTarget'),
        data_preprocessor: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone, decode_head, data_preprocessor=data_preprocessor, **kwargs)
        if not isinstance(self.data_preprocessor, MixSegDataPreProcessor):
            raise TypeError(
                f'{type(self.data_preprocessor).__name__} leaves no record of what it mixed; set '
                "data_preprocessor.type to 'mmtlalign.MixSegDataPreProcessor'."
            )
        self.data_preprocessor.record_is_taken = True
        for _, head in self.heads():
            _check_head(head)
        self.target: LabelTarget = MODELS.build(target)
        if not self.target.weighs_tokens:
            raise TypeError(
                f'{type(self.target).__name__} weighs images, not tokens; set target to '
                "dict(type='mmtlalign.AlignedTokenTarget')."
            )
        cfg = self.target.trace_cfg
        self.trace = None if cfg is None else LabelTrace(self.backbone, **cfg)

    def heads(self) -> Iterator[tuple[str, nn.Module]]:
        """Every head, and what the host puts before names of its losses."""
        yield 'decode', self.decode_head
        auxiliary = getattr(self, 'auxiliary_head', None)
        if isinstance(auxiliary, nn.ModuleList):
            yield from ((f'aux_{i}', head) for i, head in enumerate(auxiliary))
        elif auxiliary is not None:
            yield 'aux', auxiliary

    def forward(self, inputs, data_samples=None, mode='tensor', mix: MixRecord | None = None):
        """The host's entry; ``mix`` is the preprocessor's record of a mixed batch, for 'loss'."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, mix)
        return super().forward(inputs, data_samples, mode)

    def loss(
        self, inputs: Tensor, data_samples: list[SegDataSample], mix: MixRecord | None = None
    ) -> dict:
        """Losses of a batch, and the values to log.

        Args:
            inputs (Tensor): (B, C, H, W), mixed.
            data_samples (list[SegDataSample]): With each image's own labels.
            mix (MixRecord, optional): What was mixed. Defaults to None, which is the host's loss.
        """
        if mix is None:
            return super().loss(inputs, data_samples)
        with self.trace(mix.token_share) if self.trace else nullcontext():
            feats = self.extract_feat(inputs)
        share = self.target.token_share(mix, self.trace).to(inputs.device, non_blocking=True)
        losses = {}
        for name, head in self.heads():
            found = mixed_losses(head, head(feats), data_samples, mix, share)
            losses.update(add_prefix(found, name))
        shown = F.adaptive_avg_pool2d(mix.token_share, share.shape[1:])
        shown, lam = (x.to(share, non_blocking=True) for x in (shown, mix.lam))
        return dict(
            losses,
            lam=lam.mean(),
            aligned_share=share.mean(),
            token_fluctuation=(share - shown).abs().mean(),
        )


def mixed_losses(
    head: BaseDecodeHead,
    scores: Tensor,
    data_samples: list[SegDataSample],
    mix: MixRecord,
    share: Tensor,
) -> dict:
    """A head's losses against two label maps, weighed pixel by pixel, as the host names them.

    Cross entropy is linear in the label, so that no head or loss is needed that takes soft ones.
    The host divides both parts by the same: partners are a permutation, so both cover the same
    labels. ``acc_seg`` is judged by the label that weighs more.

    Args:
        head (BaseDecodeHead): Of the host.
        scores (Tensor): (B, num_classes, h, w), what it gives.
        data_samples (list[SegDataSample]): With each image's own labels.
        mix (MixRecord): Tells the partners.
        share (Tensor): (B, rows, cols), of tokens.
    """
    own = head._stack_batch_gt(data_samples).squeeze(1)
    partner = own[mix.partner.to(own.device, non_blocking=True)]
    scores, share = (
        resize(x, size=own.shape[1:], mode='bilinear', align_corners=head.align_corners)
        for x in (scores, share[:, None])
    )
    share = share[:, 0]
    losses = {}
    for loss in _losses_of(head):
        found = sum(
            loss(scores, labels, weight=weight, ignore_index=head.ignore_index)
            for labels, weight in ((own, share), (partner, 1 - share))
        )
        losses[loss.loss_name] = losses.get(loss.loss_name, 0) + found
    losses['acc_seg'] = accuracy(
        scores, torch.where(share < 0.5, partner, own), ignore_index=head.ignore_index
    )
    return losses


def _losses_of(head: BaseDecodeHead) -> Iterable[nn.Module]:
    losses = head.loss_decode
    return losses if isinstance(losses, nn.ModuleList) else [losses]


def _check_head(head: nn.Module) -> None:
    """Raise an error for a head that does more than a plain cross entropy."""
    name = type(head).__name__
    for method in ('loss', 'loss_by_feat'):
        if getattr(type(head), method, None) is not getattr(BaseDecodeHead, method):
            raise TypeError(
                f'{name} brings its own `{method}`, which knows no mixed label maps; use a head '
                f'such as UPerHead or FCNHead, or {PASTING}'
            )
    if head.sampler is not None:
        raise ValueError(
            f'{type(head.sampler).__name__} of {name} picks pixels by one '
            'label map, and a mix has two; leave out `sampler`.'
        )
    for loss in _losses_of(head):
        if type(loss) is not CrossEntropyLoss or loss.use_mask:
            raise ValueError(
                f'{type(loss).__name__} of {name} is not linear in the label, so it cannot be '
                f'weighed; use CrossEntropyLoss, or {PASTING}'
            )
