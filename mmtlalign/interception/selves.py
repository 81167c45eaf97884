"""Stand-ins for the ``self`` of a stock method."""

from torch import nn


class StandInSelf:
    """The ``self`` of a stock method: the module, but for some attributes.

    Args:
        module (nn.Module): What has all the others.
        catch (str): An attribute that the method calls. What it is given first is kept as
            ``caught``, and returned.
        attributes: Others that the method should meet.
    """

    def __init__(self, module: nn.Module, catch: str, **attributes) -> None:
        self.module = module
        for name, value in (attributes | {catch: self._catch}).items():
            setattr(self, name, value)

    def __getattr__(self, name: str):
        return getattr(self.module, name)

    def _catch(self, caught, *args, **kwargs):
        self.caught = caught
        return caught
