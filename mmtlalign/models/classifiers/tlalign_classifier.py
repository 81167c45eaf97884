"""TL-Align (arXiv 2210.06455) around any supported backbone."""

from contextlib import nullcontext
from functools import cached_property, partial

from mmpretrain.models import DeiTClsHead, DistilledVisionTransformer, ImageClassifier
from mmpretrain.registry import MODELS as HOST_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.alignment import LabelTrace
from mmtlalign.merging import TokenKeeping, TokenMerging
from mmtlalign.old_arguments import modernise
from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, swap_tokens
from ..data_preprocessors import TLAlignDataPreprocessor
from ..heads.tlalign_head import ALIGNED_FORMS, AlignedLabelHead
from ..patch_embedding import PatchEmbedding
from ..targets import LabelTarget


@MODELS.register_module()
class TLAlignClassifier(ImageClassifier):
    """The host's classifier, trained on labels that follow the tokens.

    Parameters, prediction and checkpoints are those of :class:`mmpretrain.models.ImageClassifier`.
    Training logs ``lam`` and, unless labels go by area, ``aligned_share`` and
    ``token_fluctuation``, the mean of ``|aligned_share - lam|``.

    Args:
        backbone (dict): A backbone that :class:`LabelTrace` supports, if the target traces it.
        neck (dict, optional): As in the host. Defaults to None.
        head (dict): Of the host; it is built in its aligned form.
        target (dict): What share of its own label a mixed sample is trained on. Defaults to
            :class:`AlignedTarget`; :class:`AreaTarget` is the baseline in the same pipeline.
        token_merging (dict, optional): Arguments of :class:`TokenMerging`, or with
            ``type='TokenKeeping'`` of that; tokens are merged in training and in inference.
            Defaults to None.
        train_cfg (dict, optional): ``augments`` and ``probs`` of :class:`RandomMix`. Defaults to
            None, which mixes nothing.
        data_preprocessor (dict, optional): Arguments of :class:`TLAlignDataPreprocessor`, which is
            its default type.
        **kwargs: Other arguments of the host's classifier.

    Raises:
        TypeError: A data preprocessor, backbone or head that cannot be used.
        ValueError: A head or loss that cannot be trained on mixed labels.
    """

    preprocessor = 'mmtlalign.TLAlignDataPreprocessor'

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        target: dict = dict(type='mmtlalign.AlignedTarget'),
        token_merging: dict | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        **kwargs,
    ) -> None:
        old = modernise({'type': type(self).__name__, **kwargs})
        if old:
            raise TypeError(f'Of release 0.1: {"; ".join(old)}.')
        data_preprocessor = data_preprocessor or {}
        if isinstance(data_preprocessor, dict):
            if train_cfg and data_preprocessor.get('batch_augments'):
                raise TypeError(
                    'mixing is named twice, in train_cfg and in data_preprocessor.batch_augments; '
                    'leave out one.'
                )
            data_preprocessor = {'type': self.preprocessor, **data_preprocessor}
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=_aligned(head),
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            **kwargs,
        )
        if not isinstance(self.data_preprocessor, TLAlignDataPreprocessor):
            raise TypeError(
                f'{type(self.data_preprocessor).__name__} leaves no record of what it mixed; leave '
                "out `type` in data_preprocessor, or set it to 'mmtlalign.TLAlignDataPreprocessor'."
            )
        self.data_preprocessor.record_is_taken = True
        if self.data_preprocessor.batch_augments is not None:
            _check_head(self.head)
        _refuse_two_tokens(self.backbone, self.head)
        self.target: LabelTarget = MODELS.build(target)
        _check_tokens(self.head, self.target)
        self.token_merging = _build_merging(token_merging, self.backbone)
        cfg, merging = self.target.trace_cfg, self.token_merging
        self.trace = (
            None if cfg is None else LabelTrace(self.backbone, token_merging=merging, **cfg)
        )

    def forward(self, inputs, data_samples=None, mode='tensor', mix: MixRecord | None = None):
        """The host's entry; ``mix`` is the preprocessor's record of a mixed batch, for 'loss'."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, mix)
        return super().forward(inputs, data_samples, mode)

    def extract_feat(self, inputs: Tensor, stage: str = 'neck'):
        """As in the host, with merged tokens if the model merges them."""
        if self.token_merging is None or (self.trace and self.trace.interception.active):
            return super().extract_feat(inputs, stage)
        with self.token_merging:
            return super().extract_feat(inputs, stage)

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample], mix: MixRecord | None = None
    ) -> dict:
        """Loss of a batch, and the values to log.

        Args:
            inputs (Tensor): (B, C, H, W), mixed.
            data_samples (list[DataSample]): With each image's own label.
            mix (MixRecord, optional): What was mixed. Defaults to None, which is the host's loss.
        """
        if mix is None:
            return super().loss(inputs, data_samples)
        shares = []  # which need the scores that the head makes in its loss

        def share(scores):
            shares.append(self.target.share(mix, self.trace, scores, data_samples))
            return shares[-1]

        traced = self.trace(mix.token_share) if self.trace else nullcontext()
        with self.mixed_tokens(mix), traced:
            feats = self.extract_feat(inputs)
        given = dict(mix=mix, share=share)
        if self.head.reads_token_share:
            given['token_share'] = self.target.token_share(mix, self.trace)
        losses = self.head.loss(feats, data_samples, **given)
        lam = mix.lam.to(inputs.device, non_blocking=True)
        losses['lam'] = lam.mean()
        logged = self.target.logged_share(self.trace, shares[-1])
        if logged is not None:
            losses['aligned_share'] = logged.mean()
            losses['token_fluctuation'] = (logged - lam).abs().mean()
        return losses

    @cached_property
    def patch_embedding(self) -> PatchEmbedding:
        """PatchEmbedding: Where a mixing of tokens takes hold."""
        return PatchEmbedding(self.backbone)

    def mixed_tokens(self, record: MixRecord):
        """Context in which the backbone's tokens are swapped, if the batch is mixed so."""
        if not record.in_backbone:
            return nullcontext()
        swap = partial(swap_tokens, token_share=record.token_share, partner=record.partner)
        return self.patch_embedding.changed(swap, record.token_share.shape)


def _build_merging(cfg: dict | None, backbone: nn.Module):
    """The merging of tokens that a config names, or None."""
    if cfg is None:
        return None
    if not isinstance(cfg, dict) or not cfg:
        raise TypeError(f'token_merging={cfg!r} must be a dict of arguments, such as dict(r=13).')
    cfg = dict(cfg)
    kind = cfg.pop('type', 'TokenMerging')
    kinds = dict(TokenMerging=TokenMerging, TokenKeeping=TokenKeeping)
    if kind not in kinds:
        raise ValueError(f'token_merging.type={kind!r} must be one of {tuple(kinds)}.')
    return kinds[kind](backbone, **cfg)


def _aligned(head: dict | nn.Module | None) -> dict | nn.Module | None:
    """A config of a head, in its aligned form if it has one."""
    if not isinstance(head, dict):
        return head
    kind = head.get('type')
    found = HOST_MODELS.get(kind) if isinstance(kind, str) else kind
    return {**head, 'type': ALIGNED_FORMS.get(found, kind)}


def _check_head(head: nn.Module | None) -> None:
    """Raise an error for a head that cannot be trained on mixed labels."""
    if head is None:
        raise TypeError(
            'mixed batches need a head to be trained on; name one, or leave out train_cfg.'
        )
    if not isinstance(head, AlignedLabelHead):
        names = ', '.join(stock.__name__ for stock in ALIGNED_FORMS)
        raise TypeError(
            f'{type(head).__name__} cannot be trained on mixed labels; name one of these: {names}.'
        )
    head.check_mixing()


def _check_tokens(head: nn.Module | None, target: LabelTarget) -> None:
    """Raise TypeError for a head that trains tokens on what no target says."""
    if getattr(head, 'reads_token_share', False) and not target.weighs_tokens:
        raise TypeError(
            f'{type(head).__name__} trains every token, and {type(target).__name__} weighs '
            "images only; set target to dict(type='mmtlalign.AlignedTokenTarget'), or, to label "
            "tokens by area, to dict(type='mmtlalign.AreaTarget')."
        )


def _refuse_two_tokens(backbone: nn.Module, head: nn.Module | None) -> None:
    """Raise TypeError for a pair of tokens and a head that reads one."""
    if (
        isinstance(backbone, DistilledVisionTransformer)
        and backbone.out_type == 'cls_token'
        and not isinstance(head, DeiTClsHead)
    ):
        raise TypeError(
            f'{type(backbone).__name__} outputs two tokens, which DeiTClsHead trains on; name '
            "that head, or another out_type such as 'avg_featmap'."
        )
