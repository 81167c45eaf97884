"""Blocks that pass on fewer tokens, in plain forwards and in traced ones."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmtlalign.alignment.families import build_family
from mmtlalign.alignment.families.vit import StockAttention
from mmtlalign.interception import Interception, name_of

from .plan import Plan
from .reduced_block import ReducedBlock


class TokenReduction:
    """Under ``with``, the blocks of a backbone pass on fewer tokens; see :class:`TokenMerging` and
    :class:`TokenKeeping`.

    Whole blocks may be given to mmengine's activation checkpointing, and are repeated as they
    were, also after ``with``. Parts of them may not, and with a checkpoint around the backbone the
    backward must be in ``with``.
    """

    out_types: tuple[str, ...] = ('cls_token',)
    moving = False  # a holder of sites, like a trace, that moves no shares
    amounts: Sequence[float]  # of what is merged, for each block

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.family = build_family(backbone)
        name = f'{type(self).__name__} of {type(backbone).__name__}'
        layers = getattr(backbone, 'layers', ())
        attentions = [site for site in self.family.sites if isinstance(site, StockAttention)]
        if not layers or len(attentions) != len(layers):
            raise TypeError(
                f'{name}: its family does not say where blocks can merge tokens; ViT, DeiT and '
                'LV-ViT do.'
            )
        if self.family.out_type not in self.out_types:
            raise ValueError(
                f'{name}: out_type={self.family.out_type!r} must be one of {self.out_types}; '
                'merged tokens are no grid of patches.'
            )
        self.sites = [ReducedBlock(self, index, layer) for index, layer in enumerate(layers)]
        self.interception = Interception()
        # (B, N) by N: of how many patches tokens were made, last forward
        self.sizes: dict[int, Tensor] = {}

    def plan(self, query: Tensor, key: Tensor, size: Tensor, amount: float) -> Plan | None:
        """What to merge after attention of query and key (B, H, N, D)."""
        raise NotImplementedError

    reduce = staticmethod(Plan.mean)

    def bias(self, size: Tensor) -> Tensor | None:
        """(B, N), to be added to the scores of keys."""

    def check(self, trace) -> None:
        """Raise ValueError unless tokens can merge under this trace."""
        if trace.backbone is not self.backbone:
            raise ValueError(
                'token_merging merges the tokens of another backbone than this trace follows.'
            )
        if trace.watch:
            raise ValueError(
                f'watch={trace.watch!r} shows attention to patches, which token_merging leaves '
                'none of; use one of both.'
            )

    def __enter__(self) -> 'TokenReduction':
        self.attach(self)
        return self

    def __exit__(self, *exc_info) -> None:
        self.interception.restore()
        for site in self.sites:
            site.detach()

    def attach(self, trace) -> None:
        """Take hold of the backbone on behalf of a trace, or of itself."""
        for module in (self.backbone, *(site.module.attn for site in self.sites)):
            if 'forward' in module.__dict__:
                raise RuntimeError(
                    f'{name_of(self.backbone, module)}.forward is not the stock one: leave the '
                    '`with` block of another trace or merging first (or make a '
                    'LabelTrace(backbone, token_merging=...)), and checkpoint whole blocks only.'
                )
        self._stock_forward = self.backbone.forward
        trace.interception.replace(self.backbone, 'forward', self._forward)
        self._stock_output = self.backbone._format_output
        trace.interception.replace(self.backbone, '_format_output', self._format_output)
        for site in self.sites:
            site.attach(trace)

    def _forward(self, *args, **kwargs):
        self.sizes = {}
        return self._stock_forward(*args, **kwargs)

    def _format_output(self, tokens: Tensor, *args, **kwargs):
        return self._stock_output(self.weigh(tokens), *args, **kwargs)

    def weigh(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...), of which a plain mean over patches then weighs by size."""
        if self.family.out_type != 'avg_featmap':
            return tokens
        size = self.sizes[tokens.size(1)]
        mean = size[:, self.family.num_extra_tokens :].mean(1, keepdim=True)
        weight = (size / mean).view(size.shape + (1,) * (tokens.ndim - 2))
        return tokens * weight.to(tokens.dtype)

    def __getstate__(self) -> dict:
        """Copies are not entered and know no sizes."""
        return {**self.__dict__, 'interception': Interception(), 'sizes': {}}
