"""LabelTrace: follow the shares of two mixed images through a backbone.

TL-Align (arXiv 2210.06455) carries one label per token and class. With two images per mix, a
token's label is always ``share * own + (1 - share) * partner``, and mixing is linear with weights
that sum to one, so carrying the share alone is exact.
"""

from itertools import chain

import torch
from torch import Tensor, nn

from mmtlalign.interception import Interception, inside_backward

from .families import build_family
from .propagation import Propagation, build_propagation

WATCHES = (None, 'class', 'patches')


class LabelTrace:
    """Each image's share of its own label in what a backbone puts out.

    Outside ``with`` the backbone is the stock one, attribute for attribute. Under ``with`` its
    features and gradients are the stock ones, and every forward of it moves the shares once, those
    that activation checkpointing repeats not at all. What it left is read afterwards; before any,
    that raises RuntimeError.

    Args:
        backbone (nn.Module): A backbone of :func:`mmtlalign.alignment.supported_backbones`,
            exactly or as a subclass that overrides no ``forward``.
        record (bool): Keep the shares after every block. Defaults to False.
        propagation (str | dict | Propagation): How shares are updated where tokens mix: 'tlalign',
            'contribution', or a dict of ``type`` and arguments. Defaults to 'tlalign'.
        watch (str, optional): Also keep what the class token ('class') or all patches ('patches')
            of the last block attend to. Defaults to None.
        token_merging (optional): A :class:`mmtlalign.merging.TokenMerging` or
            :class:`mmtlalign.merging.TokenKeeping` of the same backbone; its tokens are merged
            under ``with``, and their shares with them. Defaults to None.

    Raises:
        TypeError: A backbone of no known family; names it and what is supported.
        ValueError: Attention dropout and other options that shares cannot follow; a propagation or
            ``watch`` that the family's sites do not offer what they need.

    Example:
        >>> trace = LabelTrace(backbone)
        >>> with trace(token_share):  # (B, rows, cols)
        ...     feats = backbone(images)
        >>> target = trace.output_share  # (B,)
    """

    def __init__(
        self,
        backbone: nn.Module,
        record: bool = False,
        propagation: str | dict | Propagation = 'tlalign',
        watch: str | None = None,
        token_merging=None,
    ) -> None:
        self.backbone = backbone
        self.record = record
        self.propagation = build_propagation(propagation)
        self.watch = watch
        self.token_merging = token_merging
        self.family = build_family(backbone)
        self._lasting = [*self.__dict__, '_lasting']
        self._check_offers()
        if token_merging is not None:
            token_merging.check(self)
        if not record and self.family.output is self.family.sites[-1]:
            self.family.output.limit = getattr(self.family.rows, 'stop', None)
        self._prepare()

    def _prepare(self) -> None:
        merging = self.token_merging
        self.sites = self.family.sites + (merging.sites if merging else [])
        self.interception = Interception()
        self.scratch: dict = {}  # what sites share, with a `prepare(device)`
        self.moving = False  # whether sites should move shares now
        self._token_share: Tensor | None = None
        self._forget()

    def _forget(self) -> None:
        self.share: Tensor | None = None
        self.grid: tuple[int, int] | None = None
        self._output_share: Tensor | None = None
        self._attention: Tensor | None = None
        self._recorded: list[tuple[Tensor, tuple[int, int]]] | None = None

    def _check_offers(self) -> None:
        """Hold what the sites offer against what was asked for."""
        name, family, watch = type(self.backbone).__name__, self.family, self.watch
        for site in family.sites:
            lacks = ', '.join(sorted(self.propagation.needs - site.offers))
            if lacks and site.in_block:
                raise ValueError(
                    f"propagation '{self.propagation.name}' needs {lacks} where {name} mixes "
                    "tokens, which that family does not offer; use propagation='tlalign'."
                )
        if watch not in WATCHES:
            raise ValueError(f'watch={watch!r} must be one of {WATCHES}.')
        if watch and 'rows' not in family.output.offers:
            raise ValueError(
                f'watch={watch!r} needs attention over all tokens in the last block, which '
                f'{name} does not have; leave it out.'
            )
        if watch == 'class' and not family.num_extra_tokens:
            raise ValueError(f"{name} has no class token to watch; use watch='patches'.")

    def __call__(self, token_share: Tensor) -> 'LabelTrace':
        """Set what the next ``with`` starts from.

        Args:
            token_share (Tensor): (B, rows, cols), in [0, 1]: the part of each patch's area that
                belongs to its own image. Checked here if it is on the CPU; a check on a GPU would
                stall the stream.

        Returns:
            LabelTrace: itself, for ``with``.

        Raises:
            TypeError: Not a tensor.
            ValueError: Not three dimensions, NaN, or out of range.
            RuntimeError: Called while it is entered.
        """
        if self.interception.active:
            raise RuntimeError('Leave the `with` block of this LabelTrace before giving it shares.')
        if not isinstance(token_share, Tensor):
            found = type(token_share).__name__
            raise TypeError(f'token_share must be a tensor (batch, rows, cols), but is a {found}.')
        if token_share.ndim != 3:
            shape = tuple(token_share.shape)
            raise ValueError(f'token_share must be (batch, rows, cols), but has shape {shape}.')
        share = token_share.detach().to(torch.float32)
        if share.device.type == 'cpu' and share.numel():
            low, high = (x.item() for x in share.aminmax())
            if not (low >= 0 and high <= 1):  # NaN fails both comparisons
                raise ValueError(f'token_share must lie in [0, 1], but spans [{low}, {high}].')
        self._token_share = share
        return self

    def __enter__(self) -> 'LabelTrace':
        if self._token_share is None:
            raise RuntimeError('A LabelTrace starts from shares: use `with trace(token_share):`.')
        holder = getattr(self.backbone.__dict__.get('forward'), '__self__', 0)
        if hasattr(holder, 'interception'):
            raise RuntimeError(
                f'This {type(self.backbone).__name__} is traced already, or merges tokens; leave '
                'that `with` block first (or make a LabelTrace(backbone, token_merging=...)).'
            )
        self._forget()
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info) -> None:
        self.interception.restore()
        for site in self.sites:
            site.detach()
        self._token_share = self._stock_forward = None

    @property
    def output_share(self) -> Tensor:
        """Tensor: (B,), float32, detached: own image's share in what the head reads, after block
        ``out_indices[-1]``."""
        return self._ended(self._output_share)

    @property
    def block_shares(self) -> list[Tensor]:
        """list[Tensor]: (B, tokens) after each block, extra tokens first, Swin row-major before
        merging; ValueError without ``record=True``."""
        return [share for share, _ in self._kept()[:-1]]

    @property
    def block_grids(self) -> list[tuple[int, int]]:
        """list[tuple[int]]: (rows, cols) of the patches of each of ``block_shares``; tokens before
        them are extra ones. ValueError also where tokens are merged."""
        if self.token_merging is not None:
            raise ValueError('merged tokens lie on no grid; leave out token_merging.')
        return [grid for _, grid in self._kept()[:-1]]

    @property
    def output_token_share(self) -> Tensor:
        """Tensor: (B, rows, cols), float32, detached: own image's share in each patch token, where
        :attr:`output_share` is read. Raises as ``block_grids``."""
        self.block_grids
        share, grid = self._kept()[-1]
        return share[:, self.family.num_extra_tokens :].unflatten(1, grid)

    @property
    def attention(self) -> Tensor:
        """Tensor: (B, patches), float32, detached: what the class token, or the patches on
        average, of the last block attend to; head mean. Rows sum to one less what goes to extra
        tokens. ValueError without ``watch``."""
        if self.watch is None:
            raise ValueError("attention is kept only by a trace with watch='class' or 'patches'.")
        return self._ended(self._attention)

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """The (rows, cols) on which images (B, C, H, W) are embedded, and on which ``token_share``
        is to be drawn; runs the embedding once."""
        return self.family.sites[0].first_grid(images)

    def read(self, share: Tensor) -> Tensor:
        """What the head would read if the backbone ended here.

        Args:
            share (Tensor): (B, tokens), one of ``block_shares``.

        Returns:
            Tensor: (B,), own image's share; of the last block read by the head it is
            ``output_share``.
        """
        if self.token_merging is not None:
            share = self.token_merging.weigh(share)
        return self.family.read(share)

    def begin(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Shares of patches, on the device of the images, once the grid that this very forward
        gives is known; for the first site."""
        expected = (images.size(0), *grid)
        if tuple(self._token_share.shape) != expected:
            raise ValueError(
                f'token_share is (batch, rows, cols) = {tuple(self._token_share.shape)}, but '
                f'{type(self.backbone).__name__} embeds images of {tuple(images.shape)} on '
                f'{expected}. Draw shares on this grid (check patch_size and input size).'
            )
        if images.device != self._device:  # FSDP may hide all parameters
            self._use(images.device)
        self.grid = grid
        return self._token_share.to(images.device, non_blocking=True)

    def _attach(self) -> None:
        if self.token_merging is not None:
            self.token_merging.attach(self)
        self._stock_forward = self.backbone.forward
        for site in self.family.sites:
            site.attach(self)
        tensors = chain(self.backbone.parameters(), self.backbone.buffers())
        self._use(next(tensors, torch.empty(0)).device)
        self.interception.replace(self.backbone, 'forward', self._traced_forward)

    def _use(self, device: torch.device) -> None:
        self._device = device
        for shared in self.scratch.values():
            shared.prepare(device)

    def _traced_forward(self, *args, **kwargs):
        if inside_backward():
            return self._stock_forward(*args, **kwargs)
        self._forget()
        for site in self.sites:
            site.forget()
        self.moving = True
        try:
            feats = self._stock_forward(*args, **kwargs)
            self._collect()
        finally:
            self.moving = False
            self.share = None
        return feats

    def _collect(self) -> None:
        """Count the moves, and take from the sites what users may read."""
        times, output = [site.times for site in self.sites], self.family.output
        if any(n != 1 for n in times):
            raise RuntimeError(
                f'{sum(times[1:])} times shares were moved in this forward, but '
                f'{type(self.backbone).__name__} has {len(times) - 1} modules that mix tokens, '
                'each once. Were modules replaced after LabelTrace was made? Make a new one.'
            )
        if self.watch is not None:
            self._attention, self.grid = output.seen
        blocks = [site for site in self.family.sites if site.in_block]
        self._recorded = [(site.share, site.grid) for site in (*blocks, output)]
        self._output_share = self.read(output.share)

    def _kept(self) -> list[tuple[Tensor, tuple[int, int]]]:
        """Shares and grid of every block, and of the output."""
        if not self.record:
            raise ValueError('block_shares are kept only by LabelTrace(backbone, record=True).')
        return self._ended(self._recorded)

    def _ended(self, kept):
        if self._output_share is None:
            raise RuntimeError(
                'There is no share to read yet: call the backbone once, itself and not a part such '
                'as forward_features, under `with trace(token_share):`.'
            )
        return kept

    def __getstate__(self) -> dict:
        """Copies know the (copied) backbone and family, and no shares."""
        return {key: self.__dict__[key] for key in self._lasting}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._prepare()
