"""LabelTrace: follow the shares of two mixed images through a backbone.

TL-Align (arXiv 2210.06455) carries one label per token and class. With two
images per mix, a token's label is always ``share * own + (1 - share) *
partner``, and mixing is linear with weights that sum to one, so carrying the
share alone is exact.
"""
from functools import partial
from typing import List, Optional

import torch
from torch import Tensor, nn

from .attention import (
    choose_share_attention,
    fused_share_attention,
    inside_backward,
    inside_checkpoint,
    separate_share_attention,
)
from .rules import Patch, build_rule

_ABSENT = object()


class LabelTrace:
    """Each image's share of its own label in what a backbone puts out.

    Outside ``with`` the backbone is the stock one, attribute for attribute.
    Under ``with`` its features and gradients are the stock ones, and every
    forward of it moves the shares once. Forwards that activation
    checkpointing repeats in the backward never move them.

    Args:
        backbone (nn.Module): A backbone of
            :data:`mmtlalign.alignment.RULES`, exactly or as a subclass that
            overrides no ``forward``.
        record (bool): Keep the shares after every block. Defaults to False.

    Raises:
        TypeError: A module without a rule; names it and what is supported.
        ValueError: Attention dropout and other options that shares cannot
            follow.

    Example:
        >>> trace = LabelTrace(backbone)
        >>> with trace(token_share):  # (B, rows, cols)
        ...     feats = backbone(images)
        >>> target = trace.output_share  # (B,)
    """

    def __init__(self, backbone: nn.Module, record: bool = False) -> None:
        self.backbone = backbone
        self.record = record
        self._rule = build_rule(backbone)
        self._replaced, self._movers, self._buffers = [], [], {}
        self._forget()

    def __call__(self, token_share: Tensor) -> 'LabelTrace':
        """Set what the next ``with`` starts from.

        Args:
            token_share (Tensor): (B, rows, cols), in [0, 1]: the part of each
                patch's area that belongs to its own image. Checked here if it
                is on the CPU; a check on a GPU would stall the stream.

        Returns:
            LabelTrace: itself, for ``with``.

        Raises:
            TypeError: Not a tensor.
            ValueError: Not three dimensions, NaN, or out of range.
            RuntimeError: Called while it is entered.
        """
        if self._replaced:
            raise RuntimeError('This LabelTrace is entered already; leave its '
                               '`with` block before setting other shares.')
        self._token_share = _checked(token_share)
        return self

    def __enter__(self) -> 'LabelTrace':
        if self._token_share is None:
            raise RuntimeError('A LabelTrace needs shares to start from: '
                               'enter it as `with trace(token_share):`.')
        forward = self.backbone.__dict__.get('forward')
        if isinstance(getattr(forward, '__self__', None), LabelTrace):
            raise RuntimeError(
                f'This {type(self.backbone).__name__} is being traced '
                'already; leave that `with` block first.')
        self._forget(keep_token_share=True)
        self._attach()
        return self

    def __exit__(self, *exc_info) -> None:
        self._detach()
        self._token_share = None

    @property
    def output_share(self) -> Tensor:
        """Tensor: (B,), float32, detached: own image's share in what the head
        reads, after block ``out_indices[-1]``.

        Raises:
            RuntimeError: Before any traced forward has ended.
        """
        if self._output_share is None:
            raise RuntimeError(_NOTHING_YET)
        return self._output_share

    @property
    def block_shares(self) -> List[Tensor]:
        """list[Tensor]: (B, tokens) after each block, extra tokens first,
        Swin row-major before merging.

        Raises:
            ValueError: Without ``record=True``.
            RuntimeError: Before any traced forward has ended.
        """
        if not self.record:
            raise ValueError('block_shares are kept only by '
                             'LabelTrace(backbone, record=True).')
        if self._output_share is None:
            raise RuntimeError(_NOTHING_YET)
        return self._block_shares

    def read(self, share: Tensor) -> Tensor:
        """What the head would read if the backbone ended here.

        Args:
            share (Tensor): (B, tokens), one of ``block_shares``.

        Returns:
            Tensor: (B,), own image's share; of the last block read by the
            head it is ``output_share``.
        """
        return self._rule.read(share)

    # What rules use while `moving`.

    @property
    def moving(self) -> bool:
        """bool: Whether a mixing module should move shares now."""
        return self._running

    def attend(self, query: Tensor, key: Tensor, value: Tensor):
        """Global attention over features and the current shares.

        Args:
            query, key, value (Tensor): (B, heads, N, D).

        Returns:
            Tuple[Tensor, Tensor]: features (B, heads, N, D) and mixed shares
            (B, N).
        """
        if inside_checkpoint():
            return separate_share_attention(query, key, value, self.share)
        return self._share_attention(query, key, value, self.share)

    # How a traced forward runs.

    def _traced_forward(self, *args, **kwargs):
        if inside_backward():
            return self._stock_forward(*args, **kwargs)
        self._start_forward()
        try:
            feats = self._stock_forward(*args, **kwargs)
            self._check_count()
            self._collect()
        finally:
            self._running = False
            self.share = None
        return feats

    def _start_forward(self) -> None:
        self.share = None
        for mover in self._movers:
            mover.forget()
        self._block_shares = []
        self._output_share = None
        self._running = True

    def _traced_patch_embed(self, images: Tensor, *args, **kwargs):
        """Start from the grid that this very forward gives."""
        tokens, grid = self._stock_patch_embed(images, *args, **kwargs)
        if self._running:
            expected = (tokens.size(0), *grid)
            if tuple(self._token_share.shape) != expected:
                raise ValueError(
                    'token_share is (batch, rows, cols) = '
                    f'{tuple(self._token_share.shape)}, but patch_embed gave '
                    f'{tuple(expected)} for images of '
                    f'{tuple(images.shape)}. Draw shares on the grid of this '
                    'batch (check patch_size and input size).')
            self.share = self._rule.start(
                self._token_share.to(tokens.device, non_blocking=True))
        return tokens, grid

    def _check_count(self) -> None:
        moved = sum(mover.times for mover in self._movers)
        if moved != len(self._movers):
            raise RuntimeError(
                f'{moved} modules moved shares in this forward, but the rule '
                f'expects {len(self._movers)}. Were modules replaced after '
                'LabelTrace was made? Make a new one.')

    def _collect(self) -> None:
        """Take from the movers what users may read."""
        output = self._movers[self._rule.output_move - 1]
        self._output_share = self._rule.read(output.share)
        if self.record:
            self._block_shares = [
                mover.share for mover in self._movers if mover.in_block
            ]

    # How it takes hold of a backbone, and lets go.

    def _attach(self) -> None:
        device = next(self.backbone.parameters()).device
        self._share_attention = choose_share_attention(device)
        if self._share_attention is fused_share_attention:
            # one pair of buffers for all blocks and steps
            self._share_attention = partial(
                fused_share_attention, buffers=self._buffers)
        self._stock_forward = self.backbone.forward
        self._stock_patch_embed = self.backbone.patch_embed.forward
        self._movers = self._rule.movers(self)
        try:
            self._replace(
                Patch(self.backbone.patch_embed, 'forward',
                      self._traced_patch_embed),
                *(patch for mover in self._movers
                  for patch in mover.patches()),
                Patch(self.backbone, 'forward', self._traced_forward))
        except BaseException:
            self._detach()
            raise

    def _replace(self, *patches: Patch) -> None:
        for owner, name, replacement in patches:
            before = owner.__dict__.get(name, _ABSENT)
            self._replaced.append((owner, name, before))
            setattr(owner, name, replacement)

    def _detach(self) -> None:
        while self._replaced:
            owner, name, before = self._replaced.pop()
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._share_attention = None
        self._stock_forward = self._stock_patch_embed = None
        self._movers = []

    def _forget(self, keep_token_share: bool = False) -> None:
        if not keep_token_share:
            self._token_share: Optional[Tensor] = None
        self.share: Optional[Tensor] = None
        self._running = False
        self._block_shares: List[Tensor] = []
        self._output_share: Optional[Tensor] = None

    def __getstate__(self) -> dict:
        """Copies know the (copied) backbone and rule, and no shares."""
        return dict(backbone=self.backbone, record=self.record,
                    _rule=self._rule)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._replaced, self._movers, self._buffers = [], [], {}
        self._share_attention = None
        self._stock_forward = self._stock_patch_embed = None
        self._forget()


_NOTHING_YET = ('There is no share to read yet: run the backbone once under '
                '`with trace(token_share):`.')


def _checked(token_share: Tensor) -> Tensor:
    if not isinstance(token_share, Tensor):
        raise TypeError('token_share must be a tensor (batch, rows, cols), '
                        f'but is a {type(token_share).__name__}.')
    if token_share.ndim != 3:
        raise ValueError('token_share must be (batch, rows, cols), but has '
                         f'shape {tuple(token_share.shape)}.')
    share = token_share.detach().to(torch.float32)
    if share.device.type == 'cpu' and share.numel():
        low, high = (x.item() for x in share.aminmax())
        # NaN fails both comparisons.
        if not (low >= 0 and high <= 1):
            raise ValueError('token_share must lie in [0, 1], but spans '
                             f'[{low}, {high}].')
    return share
