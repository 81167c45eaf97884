"""Token Labeling (arXiv 2104.10858) around any backbone of patches."""

from mmtlalign.registry import MODELS

from ..heads import TokenLabelHead
from .tlalign_classifier import TLAlignClassifier


@MODELS.register_module()
class TokenLabelClassifier(TLAlignClassifier):
    """A classifier of backbones whose tokens can be mixed and labelled.

    A batch drawn by :class:`MixToken` is mixed in the output of the patch embedding, before
    position embeddings, for the span of one training forward. The same record sets the class
    target, by area or by another target. Prediction and checkpoints are the host's.

    Args:
        backbone (dict): One that :class:`LabelTrace` supports, with a patch embedding that returns
            ``(tokens, (rows, cols))``.
        target (dict): As in :class:`TLAlignClassifier`. Defaults to :class:`AreaTarget`.
        train_cfg (dict, optional): ``augments`` and ``probs`` of :class:`RandomMix`.
        data_preprocessor (dict, optional): Arguments of :class:`TokenLabelDataPreprocessor`, which
            is its default type.
        **kwargs: Other arguments of :class:`TLAlignClassifier`.

    Raises:
        TypeError: If the backbone is another, or if the head is a :class:`TokenLabelHead` and the
            backbone has not exactly one class token.
    """

    preprocessor = 'mmtlalign.TokenLabelDataPreprocessor'

    def __init__(
        self, backbone: dict, *args, target: dict = dict(type='mmtlalign.AreaTarget'), **kwargs
    ) -> None:
        super().__init__(backbone, *args, target=target, **kwargs)
        self.patch_embedding  # refuses a backbone without one
        extra = getattr(self.backbone, 'num_extra_tokens', 1)
        if isinstance(self.head, TokenLabelHead) and extra != 1:
            raise TypeError(
                f'{type(self.backbone).__name__} puts {extra} tokens before those of the '
                'patches; TokenLabelHead reads backbones with one, the class token.'
            )
