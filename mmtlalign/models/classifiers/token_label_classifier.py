"""Token Labeling (arXiv 2104.10858) around any backbone of patches."""
from functools import partial

from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.alignment import PatchEmbedding
from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, swap_tokens
from ..heads import TokenLabelHead
from .tlalign_classifier import TLAlignClassifier


@MODELS.register_module()
class TokenLabelClassifier(TLAlignClassifier):
    """A classifier whose mixing may swap tokens inside the backbone.

    A batch drawn by :class:`MixToken` is mixed in the output of
    ``backbone.patch_embed``, before position embeddings, for the span of one
    training forward. The same record sets the class target, by area or by
    another target.

    Parameters, prediction and checkpoints are those of
    :class:`mmpretrain.models.ImageClassifier`.

    Args:
        backbone (dict): One that :class:`LabelTrace` supports, with a
            patch embedding that returns ``(tokens, (rows, cols))``.
        target (dict): As in :class:`TLAlignClassifier`. Defaults to
            :class:`AreaTarget`.
        train_cfg (dict, optional): ``augments`` and ``probs`` of
            :class:`RandomMix`.
        data_preprocessor (dict, optional): Arguments of
            :class:`TokenLabelDataPreprocessor`, which is its default type.
        **kwargs: Other arguments of :class:`TLAlignClassifier`.

    Raises:
        TypeError: If the backbone is another, or if the head is a
            :class:`TokenLabelHead` and the backbone has not exactly one
            class token.
    """

    def __init__(self,
                 backbone: dict,
                 *args,
                 target: dict = dict(type='mmtlalign.AreaTarget'),
                 data_preprocessor: dict | None = None,
                 **kwargs) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            data_preprocessor = {
                'type': 'mmtlalign.TokenLabelDataPreprocessor',
                **(data_preprocessor or {})
            }
        super().__init__(
            backbone,
            *args,
            target=target,
            data_preprocessor=data_preprocessor,
            **kwargs)
        self.patch_embedding = PatchEmbedding(self.backbone)
        extra = getattr(self.backbone, 'num_extra_tokens', 1)
        if isinstance(self.head, TokenLabelHead) and extra != 1:
            raise TypeError(
                f'{type(self.backbone).__name__} puts {extra} tokens before '
                'those of the patches; TokenLabelHead reads backbones with '
                'one, the class token.')

    def loss(self,
             inputs: Tensor,
             data_samples: list[DataSample],
             mix: MixRecord | None = None) -> dict:
        """Loss of a batch that is mixed by now, or in the backbone."""
        if mix is None or not mix.in_backbone:
            return super().loss(inputs, data_samples, mix)
        with self.mixed_tokens(mix):
            return super().loss(inputs, data_samples, mix)

    def mixed_tokens(self, record: MixRecord):
        """Context in which the backbone's tokens are swapped as recorded; see
        :meth:`PatchEmbedding.changed`."""
        swap = partial(swap_tokens, token_share=record.token_share,
                       partner=record.partner)
        return self.patch_embedding.changed(swap, record.token_share.shape)
