"""What a family of backbones tells the trace."""
from typing import NamedTuple

from torch import Tensor, nn

from ..sites import Attention, Site

# What stock forwards hand on to; a subclass that changes one of these reads
# or computes something else, just as with another `forward`.
DELEGATES = ('forward', 'forward_features', 'forward_head', 'pool',
             '_pos_embed', '_format_output', '_attn')


class MergingBlock(NamedTuple):
    """A block whose tokens can be merged between attention and ffn.

    Attributes:
        module (nn.Module): The block, ``module(x)``.
        attention (Attention): Its attention, whose ``attn`` calls its
            ``scaled_dot_product_attention`` once.
        norm (nn.Module): What the ffn is given has passed.
        ffn (nn.Module): Called as ``ffn(norm(x), identity=x)`` at the end.
    """
    module: nn.Module
    attention: Attention
    norm: nn.Module
    ffn: nn.Module


class Family:
    """Where one backbone mixes tokens, in which order, and what is read.

    A family checks the backbone once, at construction, and never changes it.

    Attributes:
        sites (list[Site]): In the order of the forward; the first is the
            start.
        output (Site): After which the share of what the head reads is taken.
        num_extra_tokens (int): Class and other tokens at the output, before
            those of patches.
        num_rows (int, optional): How many leading tokens :meth:`read` looks
            at; None stands for all.
        merging_blocks (Sequence[MergingBlock]): All blocks, if their tokens
            can be merged; then also ``out_type``, and ``pooling``, the owner
            and name of a function that takes plain means over patches.
    """
    sites: list[Site]
    output: Site
    num_extra_tokens = 0
    num_rows: int | None = None
    merging_blocks: tuple[MergingBlock, ...] = ()
    out_type: str
    pooling: tuple[nn.Module, str]

    def __init__(self, backbone: nn.Module) -> None:
        raise NotImplementedError

    def read(self, share: Tensor) -> Tensor:
        """Shares (B, N) at the output -> share of what the head reads (B,);
        by default the mean over patches."""
        return share[:, self.num_extra_tokens:].mean(dim=1)


def name_of(backbone: nn.Module, module: nn.Module) -> str:
    """Dotted name of a module inside the backbone, for error messages."""
    for name, child in backbone.named_modules():
        if child is module:
            return name or 'backbone'
    return type(module).__name__


def find_class(module: nn.Module, *names: str) -> type | None:
    """The class of a module's ancestry that has one of the names.

    Args:
        module (nn.Module): Of any host; none is imported here.
        names (str): Such as ``'mmpretrain.SwinBlock'``: package and class.
    """
    for cls in type(module).__mro__:
        if f'{cls.__module__.partition(".")[0]}.{cls.__name__}' in names:
            return cls
    return None


def require_exact(backbone: nn.Module, module: nn.Module,
                  *names: str) -> None:
    """Raise TypeError unless a module computes what its stock class does.

    Args:
        backbone (nn.Module): Only for the name in the message.
        module (nn.Module): The module to check.
        names (str): Classes allowed, exactly or as a subclass that overrides
            none of :data:`DELEGATES`; see :func:`find_class`.
    """
    cls, own = find_class(module, *names), type(module)
    changed = [name for name in DELEGATES
               if getattr(own, name, None) is not getattr(cls, name, None)]
    if cls is not None and not changed:
        return
    what = f'{own.__name__} of {own.__module__.partition(".")[0]}'
    if cls is not None:
        what += f' that overrides {", ".join(changed)}'
    inner = next((name for name in ('module', '_orig_mod')
                  if hasattr(module, name)), None)
    raise TypeError(
        f'{name_of(backbone, module)} is a {what}; label alignment knows '
        f'{", ".join(names)} here. '
        + (f'Hand over what it wraps (.{inner}).' if inner else
           'Write a family for it (docs/alignment.md, "Adding a backbone").'))


def refuse_dropout(name: str, rate: float) -> None:
    """Raise ValueError if attention dropout is on.

    Dropped entries make the rows of attention sum to something else than
    one, and the features would no longer equal those of the plain backbone.
    """
    if rate:
        raise ValueError(
            f'{name} has attention dropout {rate}; shares can only follow '
            'attention whose rows sum to one. Set it to 0 (use drop_path_rate '
            'to regularise).')


def check_out_indices(out_indices, depth: int) -> int:
    """The last block or stage that is read, if there is such a one, else
    ValueError: the host would read nothing."""
    last = max(out_indices)
    if not 0 <= last < depth:
        raise ValueError(
            f'out_indices {tuple(out_indices)} asks for {last}, but they are '
            f'numbered from 0 to {depth - 1}.')
    return last
