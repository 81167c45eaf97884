"""Token Labeling (arXiv 2104.10858) around any backbone of patches."""
from contextlib import contextmanager

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.alignment.recomputation import inside_checkpoint
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
        backbone (dict): Any with a ``patch_embed`` that returns
            ``(tokens, (rows, cols))``; for targets that trace it, one that
            :class:`LabelTrace` supports.
        target (dict): As in :class:`TLAlignClassifier`. Defaults to
            :class:`AreaTarget`.
        train_cfg (dict, optional): ``augments`` and ``probs`` of
            :class:`RandomMix`.
        data_preprocessor (dict, optional): Arguments of
            :class:`TokenLabelDataPreprocessor`, which is its default type.
        **kwargs: Other arguments of :class:`TLAlignClassifier`.

    Raises:
        TypeError: If the backbone has no ``patch_embed``, or if the head is a
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
        if not hasattr(self.backbone, 'patch_embed'):
            raise TypeError(
                f'{type(self.backbone).__name__} has no patch_embed, so its '
                'tokens cannot be mixed; use a backbone of patches, such as '
                'mmtlalign.LVViT.')
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
        with mixed_tokens(self.backbone, mix):
            return super().loss(inputs, data_samples, mix)


@contextmanager
def mixed_tokens(backbone: nn.Module, record: MixRecord):
    """Swap what ``backbone.patch_embed`` puts out, in this context only.

    By an instance attribute, as in :class:`LabelTrace`: a compiled backbone
    would not notice a forward hook.

    Args:
        backbone (nn.Module): Its ``patch_embed`` returns
            ``(tokens, (rows, cols))``.
        record (MixRecord): Whose tokens come in where.

    Raises:
        ValueError: In a forward whose tokens are on another grid.
        RuntimeError: If activation checkpointing would repeat the swap, which
            it does outside of this context, and so without it.
    """
    trains = torch.is_grad_enabled()
    patch_embed = backbone.patch_embed
    before = patch_embed.__dict__.get('forward')
    stock = patch_embed.forward

    def forward(*args, **kwargs):
        if trains and inside_checkpoint():
            raise RuntimeError(
                'Activation checkpointing of the whole backbone would repeat '
                'its forward without the mixing of tokens; checkpoint its '
                "blocks instead ('backbone.layers.0', ...).")
        tokens, grid = stock(*args, **kwargs)
        drawn, found = tuple(record.token_share.shape), (len(tokens), *grid)
        if drawn != found:
            raise ValueError(
                f'token_share is (batch, rows, cols) = {drawn}, but '
                f'patch_embed gave {found}.'
                " Set the mixing method's patch_size to the backbone's.")
        return swap_tokens(tokens, record.token_share, record.partner), grid

    patch_embed.forward = forward
    try:
        yield
    finally:
        if before is None:
            del patch_embed.forward
        else:
            patch_embed.forward = before
