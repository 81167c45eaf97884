"""What a family of backbones tells the trace, and what it checks."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmtlalign.interception import find_class, name_of, overrides

from ..sites import Site


class Family:
    """Where one backbone mixes tokens, in which order, and what is read.

    A family checks the backbone once, at construction, and never changes it.

    Attributes:
        sites (list[Site]): In the order of the forward; the first is the start.
        output (Site): After which the share of what the head reads is taken.
        num_extra_tokens (int): Class and other tokens at the output, before those of patches.
        rows (slice, optional): Which tokens the head averages. Defaults to None, those of patches.

    Raises:
        TypeError: A module of the backbone is not the stock class.
        ValueError: An option that shares cannot follow, such as attention dropout, or an output
            that the backbone never gives.
    """

    sites: list
    output: Site
    num_extra_tokens = 0
    rows: slice | None = None
    out_type: str  # of those whose head reads one of several things

    def lay_out(self, start: Site, stages: Sequence, out_indices: Sequence[int]) -> None:
        """Set the sites, and the output to the end of the last stage read; ValueError if there is
        no such stage: the host would read nothing."""
        last = max(out_indices)
        if not 0 <= last < len(stages):
            asked = f'out_indices {tuple(out_indices)} asks for {last}'
            raise ValueError(f'{asked}, but they are numbered from 0 to {len(stages) - 1}.')
        self.sites = [start, *(site for stage in stages for site in stage)]
        self.output = stages[last][-1]

    def read(self, share: Tensor) -> Tensor:
        """Shares (B, N) at the output -> share of what the head reads (B,)."""
        rows = self.rows or slice(self.num_extra_tokens, None)
        return share[:, rows].mean(dim=1)


def stock(backbone: nn.Module, module: nn.Module, *names: str, **parts: str) -> nn.Module:
    """A module of a backbone, if it computes what its stock class does.

    Args:
        names (str): Classes allowed, exactly or as subclasses; see
            :func:`mmtlalign.interception.overrides` for what these must not.
        parts (str): Attributes of it, and the class allowed for each.

    Raises:
        TypeError: Another class.
        ValueError: Attention dropout.
    """
    cls = find_class(module, *names)
    if cls is None or overrides(module, cls):
        raise TypeError(_another(backbone, module, names, cls))
    packed = isinstance(module, nn.MultiheadAttention)
    rate = module.dropout if packed else getattr(module, 'attn_drop', 0.0)
    if isinstance(rate, nn.Module):
        rate = getattr(rate, 'p', 0.0)
    refuse_dropout(name_of(backbone, module), rate)
    for name, allowed in parts.items():
        stock(backbone, getattr(module, name), allowed)
    return module


def _another(backbone: nn.Module, module: nn.Module, names: tuple, cls: type | None) -> str:
    what = f'{type(module).__name__} of {type(module).__module__.partition(".")[0]}'
    if cls is not None:
        what += f' that overrides {", ".join(overrides(module, cls))}'
    remedy = 'Write a family for it (docs/alignment.md, "Adding a backbone").'
    for inner in ('module', '_orig_mod'):
        if hasattr(module, inner):
            remedy = f'Hand over what it wraps (.{inner}).'
    known = ', '.join(names)
    return f'{name_of(backbone, module)} is a {what}; label alignment knows {known} here. {remedy}'


def refuse_dropout(name: str, rate: float) -> None:
    """ValueError for attention dropout: rows of attention would sum to something else than one,
    and features no longer equal those of the plain backbone."""
    if rate:
        raise ValueError(
            f'{name} has attention dropout {rate}; shares can only follow attention whose rows sum '
            'to one. Set it to 0 (use drop_path_rate to regularise).'
        )
