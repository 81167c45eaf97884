"""LabelTrace: follow the shares of two mixed images through a backbone.

TL-Align (arXiv 2210.06455) carries one label per token and class. With two
images per mix, a token's label is always ``share * own + (1 - share) *
partner``, and mixing is linear with weights that sum to one, so carrying the
share alone is exact.
"""
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from .families import build_family
from .interception import Interception
from .kernels import (
    choose_kernel,
    fused_share_attention,
    separate_share_attention,
)
from .propagation import Propagation, build_propagation
from .recomputation import inside_backward, inside_checkpoint
from .sites import Site
from .token_merging import TokenReduction

WATCHES = (None, 'class', 'patches')


class LabelTrace:
    """Each image's share of its own label in what a backbone puts out.

    Outside ``with`` the backbone is the stock one, attribute for attribute.
    Under ``with`` its features and gradients are the stock ones, and every
    forward of it moves the shares once. Forwards that activation
    checkpointing repeats in the backward never move them.

    Args:
        backbone (nn.Module): A backbone of
            :func:`mmtlalign.alignment.supported_backbones`, exactly or as a
            subclass that overrides no ``forward``.
        record (bool): Keep the shares after every block. Defaults to False.
        propagation (str | dict | Propagation): How shares are updated where
            tokens mix: 'tlalign', 'contribution', or a dict of ``type`` and
            arguments. Defaults to 'tlalign'.
        watch (str, optional): Also keep what the class token ('class') or all
            patches ('patches') of the last block attend to. Defaults to None.
        token_merging (TokenReduction, optional): Of the same backbone; its
            tokens are merged under ``with``, and their shares with them.
            Defaults to None.

    Raises:
        TypeError: A backbone of no known family; names it and what is
            supported.
        ValueError: Attention dropout and other options that shares cannot
            follow; a propagation or ``watch`` that the family's sites do not
            offer what they need.

    Example:
        >>> trace = LabelTrace(backbone)
        >>> with trace(token_share):  # (B, rows, cols)
        ...     feats = backbone(images)
        >>> target = trace.output_share  # (B,)
    """

    # None, or empty, but while a forward runs and after it
    share: Tensor | None
    grid: tuple[int, int] | None
    _token_share: Tensor | None
    _block_shares: list[Tensor]
    _block_grids: list[tuple[int, int]]
    _output_share: Tensor | None
    _output_token_share: Tensor | None
    _attention: Tensor | None
    _kernel: Callable | None
    _stock_forward: Callable | None

    def __init__(self,
                 backbone: nn.Module,
                 record: bool = False,
                 propagation: str | dict | Propagation = 'tlalign',
                 watch: str | None = None,
                 token_merging: TokenReduction | None = None) -> None:
        self.backbone = backbone
        self.record = record
        self.propagation = build_propagation(propagation)
        self.watch = watch
        self.token_merging = token_merging
        self.family = build_family(backbone)
        self._check_offers()
        self._check_merging()
        if not record and self.family.output is self.family.sites[-1]:
            if self.family.num_rows is not None:
                self.family.output.limit(self.family.num_rows)
        self._prepare()

    def _prepare(self) -> None:
        self.interception = Interception()
        self._buffers: dict = {}
        self._forget()

    def _check_offers(self) -> None:
        """Hold what the sites offer against what was asked for."""
        needs = self.propagation.needs
        for site in self.family.sites:
            lacks = sorted(needs - site.offers) if site.in_block else []
            if lacks:
                raise ValueError(
                    f"propagation '{self.propagation.name}' needs "
                    f'{", ".join(lacks)} where {type(self.backbone).__name__} '
                    "mixes tokens, which that family does not offer; use "
                    "propagation='tlalign'.")
        if self.watch not in WATCHES:
            raise ValueError(f'watch={self.watch!r} must be one of '
                             f'{WATCHES}.')
        if self.watch and 'rows' not in self.family.output.offers:
            raise ValueError(
                f'watch={self.watch!r} needs attention over all tokens in the '
                f'last block, which {type(self.backbone).__name__} does not '
                'have; leave it out.')
        if self.watch == 'class' and not self.family.num_extra_tokens:
            raise ValueError(
                f"watch='class' needs a class token, which "
                f'{type(self.backbone).__name__} does not have; use '
                "watch='patches'.")

    def _check_merging(self) -> None:
        if self.token_merging is None:
            return
        if self.token_merging.backbone is not self.backbone:
            raise ValueError('token_merging merges the tokens of another '
                             'backbone than this trace follows.')
        if self.watch:
            raise ValueError(f'watch={self.watch!r} shows attention to '
                             'patches, which token_merging leaves none of; '
                             'use one of both.')

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
        if self.interception.active:
            raise RuntimeError('This LabelTrace is entered already; leave its '
                               '`with` block before setting other shares.')
        self._token_share = _checked(token_share)
        return self

    def __enter__(self) -> 'LabelTrace':
        if self._token_share is None:
            raise RuntimeError('A LabelTrace needs shares to start from: '
                               'enter it as `with trace(token_share):`.')
        forward = self.backbone.__dict__.get('forward')
        if isinstance(getattr(forward, '__self__', None),
                      (LabelTrace, TokenReduction)):
            raise RuntimeError(
                f'This {type(self.backbone).__name__} is being traced '
                'already, or merges tokens; leave that `with` block first '
                '(or make a LabelTrace(backbone, token_merging=...)).')
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
        return self._ended(self._output_share)

    @property
    def block_shares(self) -> list[Tensor]:
        """list[Tensor]: (B, tokens) after each block, extra tokens first,
        Swin row-major before merging.

        Raises:
            ValueError: Without ``record=True``.
            RuntimeError: Before any traced forward has ended.
        """
        if not self.record:
            raise ValueError('block_shares are kept only by '
                             'LabelTrace(backbone, record=True).')
        self._ended(self._output_share)
        return self._block_shares

    @property
    def block_grids(self) -> list[tuple[int, int]]:
        """list[tuple[int]]: (rows, cols) of the patches of each of
        ``block_shares``; tokens before them are extra ones. Raises alike, and
        ValueError where tokens are merged."""
        self.block_shares
        if self.token_merging is not None:
            raise ValueError('merged tokens lie on no grid; leave out '
                             'token_merging.')
        return self._block_grids

    @property
    def output_token_share(self) -> Tensor:
        """Tensor: (B, rows, cols), float32, detached: own image's share in
        each patch token, where :attr:`output_share` is read. Raises as
        ``block_grids``.
        """
        self.block_grids
        return self._output_token_share

    @property
    def attention(self) -> Tensor:
        """Tensor: (B, patches), float32, detached: what the class token, or
        the patches on average, of the last block attend to; head mean. Rows
        sum to one less what goes to extra tokens.

        Raises:
            ValueError: Without ``watch``.
            RuntimeError: Before any traced forward has ended.
        """
        if self.watch is None:
            raise ValueError('attention is kept only by LabelTrace(backbone, '
                             "watch='class') or watch='patches'.")
        return self._ended(self._attention)

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """The (rows, cols) on which images (B, C, H, W) are embedded, and on
        which ``token_share`` is to be drawn; runs the embedding once."""
        start = self.family.sites[0]
        return start.first_grid(images)  # type: ignore[attr-defined]  # Start

    def read(self, share: Tensor) -> Tensor:
        """What the head would read if the backbone ended here.

        Args:
            share (Tensor): (B, tokens), one of ``block_shares``.

        Returns:
            Tensor: (B,), own image's share; of the last block read by the
            head it is ``output_share``.
        """
        if self.token_merging is not None:
            share = self.token_merging.weigh(share)
        return self.family.read(share)

    # What sites use while `moving`.

    @property
    def moving(self) -> bool:
        """bool: Whether sites should move shares now."""
        return self._running

    @property
    def sites(self) -> list[Site]:
        """list[Site]: Of the family, and of merging."""
        merging = self.token_merging
        return self.family.sites + (merging.sites if merging else [])

    @property
    def needs_parts(self) -> bool:
        """bool: Whether sites should split branches into vectors."""
        return bool(self.propagation.needs - {'matrix'})

    def begin(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Shares of patches, on the device of the images, once the grid that
        this very forward gives is known."""
        expected = (images.size(0), *grid)
        if tuple(self._token_share.shape) != expected:
            raise ValueError(
                'token_share is (batch, rows, cols) = '
                f'{tuple(self._token_share.shape)}, but '
                f'{type(self.backbone).__name__} embeds images of '
                f'{tuple(images.shape)} on {tuple(expected)}. Draw shares on '
                'the grid of this batch (check patch_size and input size).')
        if images.device != self._device:  # FSDP may hide all parameters
            self._choose_kernel(images.device)
        self.grid = grid
        return self._token_share.to(images.device, non_blocking=True)

    def attend(self, query: Tensor, key: Tensor, value: Tensor,
               share: Tensor, scale: float | None = None):
        """Attention over features and shares, see
        :mod:`mmtlalign.alignment.kernels`."""
        if inside_checkpoint():
            return separate_share_attention(query, key, value, share, scale)
        return self._kernel(query, key, value, share, scale)

    def watches(self, site: Site) -> bool:
        """Whether a site should show what it attends to."""
        return self.watch is not None and site is self.family.output

    def watched_rows(self, rows: Tensor) -> Tensor:
        """Of (B, H, N, ...), those of the N that ``watch`` asks for."""
        extra = self.family.num_extra_tokens
        return rows[:, :, :1] if self.watch == 'class' else (
            rows[:, :, extra:])

    def see(self, weights: Tensor) -> None:
        """Keep attention (B, n, M) of the rows that were asked for."""
        extra = self.family.num_extra_tokens
        self._attention = weights[..., extra:].float().mean(dim=1)
        self._seen_grid = self.grid

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
        self.share = self.grid = None
        for site in self.sites:
            site.forget()
        self._block_shares, self._block_grids = [], []
        self._output_share = self._attention = None
        self._output_token_share = None
        self._running = True

    def _check_count(self) -> None:
        mixing = self.sites[1:]
        moved = sum(site.times for site in mixing)
        if any(site.times != 1 for site in self.sites):
            raise RuntimeError(
                f'{moved} times shares were moved in this forward, but '
                f'{type(self.backbone).__name__} has {len(mixing)} modules '
                'that mix tokens, each once. Were modules replaced after '
                'LabelTrace was made? Make a new one.')

    def _collect(self) -> None:
        """Take from the sites what users may read."""
        if self._attention is not None:
            self.grid = self._seen_grid  # that of what was watched
        self._output_share = self.read(self.family.output.share)
        if self.record:
            blocks = [site for site in self.family.sites if site.in_block]
            self._block_shares = [site.share for site in blocks]
            self._block_grids = [site.grid for site in blocks]
        if self.record and self.token_merging is None:
            output = self.family.output
            self._output_token_share = output.share[
                :, self.family.num_extra_tokens:].unflatten(1, output.grid)

    # How it takes hold of a backbone, and lets go.

    def _attach(self) -> None:
        self._choose_kernel(_device_of(self.backbone))
        try:
            if self.token_merging is not None:
                self.token_merging.attach(self)
            self._stock_forward = self.backbone.forward
            for site in self.family.sites:
                site.attach(self)
            self.interception.replace(
                self.backbone, 'forward', self._traced_forward)
        except BaseException:
            self._detach()
            raise

    def _choose_kernel(self, device: torch.device) -> None:
        self._device = device
        self._kernel = choose_kernel(device)
        if self._kernel is fused_share_attention:
            # one set of buffers for all blocks and steps
            self._kernel = partial(
                fused_share_attention, buffers=self._buffers)

    def _detach(self) -> None:
        self.interception.restore()
        for site in self.sites:
            site.detach()
        self._kernel = self._stock_forward = None

    def _forget(self, keep_token_share: bool = False) -> None:
        if not keep_token_share:
            self._token_share = None
        self.share = self.grid = None
        self._running = False
        self._block_shares, self._block_grids = [], []
        self._output_share = self._output_token_share = None
        self._attention = None
        self._kernel = self._stock_forward = None

    def _ended(self, kept):
        if kept is None:
            raise RuntimeError(
                'There is no share to read yet: call the backbone once, '
                'itself and not a part such as forward_features, under '
                '`with trace(token_share):`.')
        return kept

    def __getstate__(self) -> dict:
        """Copies know the (copied) backbone and family, and no shares."""
        return {key: self.__dict__[key] for key in (
            'backbone', 'record', 'propagation', 'watch', 'family',
            'token_merging')}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._prepare()


def _device_of(backbone: nn.Module) -> torch.device:
    for tensors in (backbone.parameters(), backbone.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device('cpu')


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
