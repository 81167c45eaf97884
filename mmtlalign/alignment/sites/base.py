"""What every kind of place where tokens mix has in common."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

StandIn = tuple[nn.Module, str, Callable]


class Site:
    """A module of a backbone where tokens mix, and their shares with them.

    It keeps its own count and shares: layers share compiled code, which a value on the trace that
    differs from layer to layer would have compiled anew for each.

    Args:
        module (nn.Module): Its attribute :attr:`replaces` is what :meth:`forward` stands in for.

    Attributes:
        offers (frozenset[str]): What a propagation may ask for here: 'matrix' (attended shares),
            'residual' (what the branch is added to), 'values' and 'projection' (the branch's part
            of an image); and 'rows' (what single queries attend to, for ``watch``).
        in_block (bool): False where propagations have no say: at the start and between blocks.
        limit (int, optional): How many leading tokens are read of the last, if these will do.
        times (int): How often it moved shares in this forward.
        share (Tensor, optional): (B, N), float32, what it moved them to.
        grid (tuple[int], optional): Of its patches, if the trace records.
        seen (tuple, optional): What was watched here, and on which grid.
    """

    offers: frozenset[str] = frozenset()
    in_block = True
    limit: int | None = None
    replaces = 'forward'
    trace = None
    share: Tensor | None
    seen: tuple[Tensor, tuple[int, int]] | None

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forget()

    def attach(self, trace) -> None:
        """Take hold of the backbone on behalf of a trace."""
        self._lasting = dict(self.__dict__)
        self.trace = trace
        for owner, name, stand_in in self.stand_ins():
            trace.interception.replace(owner, name, stand_in)

    def detach(self) -> None:
        """Forget all that was set since :meth:`attach`."""
        if self.trace is not None:
            self.__dict__ = self._lasting

    def stand_ins(self) -> Iterator[StandIn]:
        """Attributes to replace; stock ones are remembered on the way."""
        self.stock = getattr(self.module, self.replaces)
        yield self.module, self.replaces, self.forward

    def forward(self, *args, **kwargs):
        """The stock call alone, unless shares move in the forward that runs now."""
        return (self.run if self.trace.moving else self.stock)(*args, **kwargs)

    def run(self, *args, **kwargs):
        """The stock call, and the shares beside it."""
        out = self.stock(*args, **kwargs)
        self.after(out, *args)
        return out

    def after(self, out, *args) -> None:
        """Move the shares, given what came out of the stock call and went into it."""
        raise NotImplementedError

    def move(self, share: Tensor) -> None:
        """Take the shares (B, N) that the tokens have now."""
        self.times += 1
        self.share = self.trace.share = share
        if self.trace.record:
            self.grid = self.trace.grid

    def forget(self) -> None:
        """Be ready for the next forward."""
        self.times = 0
        self.share = self.grid = self.seen = None
