"""One file per way to update a share where tokens mix."""

from importlib import import_module
from pkgutil import iter_modules

from torch import Tensor

from ..sites.branch import Parts

_PROPAGATIONS: dict[str, type['Propagation']] = {}


class Propagation:
    """How a token's share changes where tokens mix.

    Attributes:
        name (str): What it is registered as.
        needs (frozenset[str]): What a site must offer, see ``offers`` of
            :class:`mmtlalign.alignment.sites.Site`.
    """

    name = 'unregistered'
    needs: frozenset[str] = frozenset({'matrix'})

    @property
    def needs_parts(self) -> bool:
        """bool: Whether sites should split branches into vectors."""
        return bool(self.needs - {'matrix'})

    def __call__(self, share: Tensor | None, mixed: Tensor, parts: Parts | None = None) -> Tensor:
        """New shares of the tokens at a site.

        Args:
            share (Tensor, optional): (..., N), float32: shares of the residual stream; None where
                the site has no residual.
            mixed (Tensor): (..., N), float32: ``mean_heads(A) @ share``.
            parts (Parts, optional): Given if :attr:`needs_parts`.

        Returns:
            Tensor: (..., N), float32, without gradient.
        """
        raise NotImplementedError


def register_propagation(name: str):
    """Class decorator: make a :class:`Propagation` known by a name."""

    def register(cls: type[Propagation]) -> type[Propagation]:
        cls.name = name
        _PROPAGATIONS[name] = cls
        return cls

    return register


def build_propagation(propagation: str | dict | Propagation) -> Propagation:
    """A propagation by name (``'tlalign'``), with arguments (``dict(type='contribution',
    measure='norm')``), or as it is.

    Raises:
        TypeError: Something else, or an argument that it does not take.
        ValueError: A name that nobody registered; lists those known.
    """
    if isinstance(propagation, Propagation):
        return propagation
    if not isinstance(propagation, (str, dict)):
        raise TypeError(
            f'propagation={propagation!r} must be a name, a dict of type and arguments, or a '
            'Propagation.'
        )
    for module in iter_modules(__path__):
        import_module(f'{__name__}.{module.name}')
    arguments = {'type': propagation} if isinstance(propagation, str) else dict(propagation)
    name = arguments.pop('type', None)
    if name not in _PROPAGATIONS:
        known = ', '.join(sorted(_PROPAGATIONS))
        raise ValueError(f'propagation {name!r} is unknown; use one of {known}.')
    return _PROPAGATIONS[name](**arguments)
