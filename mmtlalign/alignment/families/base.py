"""What a family of backbones tells the trace, and what it checks."""
from collections.abc import Sequence

from torch import Tensor, nn

from ..sites import Site

# What stock forwards hand on to; a subclass that changes one of these reads
# or computes something else, just as with another `forward`.
DELEGATES = ('forward', 'forward_features', 'forward_head', 'pool',
             '_pos_embed', '_format_output', '_attn')


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

    Raises:
        TypeError: A module of the backbone is not the stock class.
        ValueError: An option that shares cannot follow, such as attention
            dropout, or an output that the backbone never gives.
    """
    sites: list[Site]
    output: Site
    num_extra_tokens = 0
    num_rows: int | None = None

    def __init__(self, backbone: nn.Module) -> None:
        raise NotImplementedError

    def lay_out(self, start: Site, stages: Sequence[Sequence[Site]],
                out_indices: Sequence[int]) -> None:
        """Set the sites, and the output to the end of the last stage read.

        Raises:
            ValueError: If there is no such stage: the host would read
                nothing.
        """
        last = max(out_indices)
        if not 0 <= last < len(stages):
            raise ValueError(
                f'out_indices {tuple(out_indices)} asks for {last}, but they '
                f'are numbered from 0 to {len(stages) - 1}.')
        self.sites = [start, *(site for stage in stages for site in stage)]
        self.output = stages[last][-1]

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


def class_name(cls: type) -> str:
    """Package and class, such as ``'mmpretrain.SwinBlock'``."""
    return f'{cls.__module__.partition(".")[0]}.{cls.__name__}'


def find_class(module: nn.Module, *names: str) -> type | None:
    """The class of a module's ancestry that has one of the names, as
    :func:`class_name` gives them; no host is imported here."""
    for cls in type(module).__mro__:
        if class_name(cls) in names:
            return cls
    return None


def stock(backbone: nn.Module, module: nn.Module, *names: str) -> nn.Module:
    """A module that computes what its stock class does, without attention
    dropout.

    Args:
        backbone (nn.Module): Only for the name in messages.
        module (nn.Module): The module to check.
        names (str): Classes allowed, exactly or as a subclass that overrides
            none of :data:`DELEGATES`; see :func:`find_class`.

    Returns:
        nn.Module: The module.

    Raises:
        TypeError: Another class.
        ValueError: Attention dropout.
    """
    cls, own = find_class(module, *names), type(module)
    changed = [name for name in DELEGATES
               if getattr(own, name, None) is not getattr(cls, name, None)]
    if cls is not None and not changed:
        rate = module.dropout if isinstance(module, nn.MultiheadAttention) \
            else getattr(module, 'attn_drop', 0.)
        if isinstance(rate, nn.Module):
            rate = getattr(rate, 'p', 0.)
        refuse_dropout(name_of(backbone, module), rate)
        return module
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
