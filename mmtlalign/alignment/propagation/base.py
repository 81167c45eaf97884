"""What a way to update shares offers to the sites."""

from torch import Tensor

from ..sites.branch import Parts


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
