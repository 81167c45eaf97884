"""Stand-ins for instance attributes, and their return to what they were."""

from collections.abc import Callable

_ABSENT = object()


class Interception:
    """Replaces attributes of instances and puts back what was there.

    By instance attributes rather than hooks, since a compiled module does not notice a hook on one
    of its children. Several may stack on one attribute; they are undone in reverse order.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[object, str, object]] = []

    @property
    def active(self) -> bool:
        """bool: Whether anything is replaced at the moment."""
        return bool(self._replaced)

    def replace(self, owner: object, name: str, stand_in: Callable) -> None:
        """Let ``owner.name`` be the stand-in until :meth:`restore`."""
        before = owner.__dict__.get(name, _ABSENT)
        self._replaced.append((owner, name, before))
        setattr(owner, name, stand_in)

    def restore(self) -> None:
        """Put back every replaced attribute, the last one first."""
        while self._replaced:
            owner, name, before = self._replaced.pop()
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
