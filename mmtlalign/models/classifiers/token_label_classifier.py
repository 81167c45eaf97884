"""Token Labeling (arXiv 2104.10858) around any backbone of patches."""
from contextlib import contextmanager
from typing import List, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.alignment.recomputation import inside_checkpoint
from mmtlalign.registry import MODELS

from ..batch_augments import swap_tokens
from ..heads import TokenLabelHead
from .tlalign_classifier import TLAlignClassifier


@MODELS.register_module()
class TokenLabelClassifier(TLAlignClassifier):
    """A classifier whose mixing may swap tokens inside the backbone.

    A batch drawn by :class:`MixToken` is mixed in the output of
    ``backbone.patch_embed``, before position embeddings, for the span of one
    training forward. The same record sets the class target by area, or, with
    ``aligned=True``, by the shares that TL-Align follows to the output.

    Parameters, prediction and checkpoints are those of
    :class:`mmpretrain.models.ImageClassifier`.

    Args:
        backbone (dict): Any with a ``patch_embed`` that returns
            ``(tokens, (rows, cols))``; with ``aligned=True``, one of
            :data:`mmtlalign.alignment.RULES`.
        aligned (bool): Class targets by TL-Align instead of by area. Defaults
            to False.
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
                 aligned: bool = False,
                 data_preprocessor: Optional[dict] = None,
                 **kwargs) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            data_preprocessor = {
                'type': 'mmtlalign.TokenLabelDataPreprocessor',
                **(data_preprocessor or {})
            }
        super().__init__(
            backbone,
            *args,
            aligned=aligned,
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

    def loss(self, inputs: Tensor, data_samples: List[DataSample]) -> dict:
        """Loss of a batch that is mixed by now, or in the backbone."""
        if 'token_partner' not in data_samples[0]:
            return super().loss(inputs, data_samples)
        token_share, partner = (
            torch.stack([sample.get(key) for sample in data_samples])
            for key in ('token_share', 'token_partner'))
        with mixed_tokens(self.backbone, token_share, partner):
            return super().loss(inputs, data_samples)


@contextmanager
def mixed_tokens(backbone: nn.Module, token_share: Tensor, partner: Tensor):
    """Swap what ``backbone.patch_embed`` puts out, in this context only.

    By an instance attribute, as in :class:`LabelTrace`: a compiled backbone
    would not notice a forward hook.

    Args:
        backbone (nn.Module): Its ``patch_embed`` returns
            ``(tokens, (rows, cols))``.
        token_share (Tensor): (B, rows, cols), 1 where a token stays.
        partner (Tensor): (B,), int64: whose tokens come in elsewhere.

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
        expected = (tokens.size(0), *grid)
        if tuple(token_share.shape) != expected:
            raise ValueError(
                'token_share is (batch, rows, cols) = '
                f'{tuple(token_share.shape)}, but patch_embed gave {expected}.'
                " Set the mixing method's patch_size to the backbone's.")
        return swap_tokens(tokens, token_share, partner), grid

    patch_embed.forward = forward
    try:
        yield
    finally:
        if before is None:
            del patch_embed.forward
        else:
            patch_embed.forward = before
