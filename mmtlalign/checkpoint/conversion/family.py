"""What the families share: renaming, and the parts of a model."""

import re

from mmpretrain.models import LinearClsHead
from torch import Tensor, nn

from mmtlalign.errors import UserError

State = dict[str, Tensor]
Table = list[tuple[str, str]]


class Family:
    """Backbones whose weights come in several layouts, with their head.

    The layouts are that of mmpretrain and of others, such as timm's; a table
    translates the keys. A family is a subclass in a module of its own.
    """

    # In messages
    name = ''
    # Of each layout, the beginning of a key that only it has
    marks: dict[str, str] = {}
    # Ends of keys that every constructor computes, and not all layouts keep
    buffers: tuple[str, ...] = ()
    # Beginnings of keys that only a pretraining uses, in any layout
    pretraining: tuple[str, ...] = ()

    def recognise(self, state: State) -> str | None:
        """The layout of weights; None if they are of another family."""
        for layout, mark in self.marks.items():
            if any(key.startswith(mark) for key in state):
                return layout
        return None

    def table(self, state: State, layout: str) -> Table:
        """Beginnings of keys in another layout, and in mmpretrain's.

        The first that fits is taken, in either direction.
        """
        raise NotImplementedError

    def to_mmpretrain(self, state: State, layout: str, path: str) -> State:
        """From any layout to mmpretrain's; the path is for messages."""
        state = self.without_buffers(state)
        if layout == 'mmpretrain':
            return state
        return self.adopt(rename(state, self.table(state, layout), path))

    def from_mmpretrain(self, state: State, layout: str, path: str) -> State:
        """From mmpretrain's layout to any."""
        state = self.without_buffers(state)
        if layout == 'mmpretrain':
            return state
        table = [(new, old) for old, new in self.table(state, layout)]
        return rename(self.release(state), table, path)

    def adopt(self, state: State) -> State:
        """Turn tensors, already under mmpretrain's keys, into mmpretrain's."""
        return state

    def release(self, state: State) -> State:
        """The reverse of :meth:`adopt`."""
        return state

    def build(self, state: State, path: str) -> nn.Module:
        """mmpretrain's model for a state in its layout, as its keys tell."""
        raise NotImplementedError

    def timm_model(self, backbone: nn.Module, state: State) -> tuple[str, dict]:
        """Which of timm's models computes what a backbone does.

        Args:
            backbone (nn.Module): Of mmpretrain.
            state (dict[str, Tensor]): In timm's layout.

        Returns:
            tuple[str, dict]: Its name and its arguments.

        Raises:
            UserError: If the family is not published in this way.
        """
        raise UserError(f'a {self.name} cannot be published for timm: only ViT, DeiT and Swin')

    def without_buffers(self, state: State) -> State:
        """What is not computed by the constructor."""
        return {key: value for key, value in state.items() if not key.endswith(self.buffers)}

    def complete(self, state: State, model: nn.Module) -> State:
        """Add the buffers, which mmpretrain's checkpoints hold."""
        computed = model.state_dict()
        return {**state, **{key: computed[key] for key in computed if key.endswith(self.buffers)}}


def rename(state: State, table: Table, path: str) -> State:
    """Replace the beginnings of all keys.

    Args:
        state (dict[str, Tensor]): By key.
        table (list[tuple[str, str]]): Old and new beginning of a key; ``{}``
            stands for a number. The first that fits is taken.
        path (str): Only for messages.

    Returns:
        dict[str, Tensor]: By new key.

    Raises:
        UserError: Naming a key that no line of the table fits.
    """
    patterns = [(re.compile(re.escape(old).replace(r'\{\}', r'(\d+)')), new) for old, new in table]
    renamed = {}
    for key, value in state.items():
        for pattern, new in patterns:
            if match := pattern.match(key):
                renamed[new.format(*match.groups()) + key[match.end() :]] = value
                break
        else:
            raise UserError(f"'{path}' holds '{key}', which no model of this family has")
    return renamed


def count(state: State, pattern: str) -> int:
    """One more than the largest number that the pattern's group matches."""
    found = [int(m[1]) for m in map(re.compile(pattern).match, state) if m]
    return max(found, default=-1) + 1


def with_head(backbone: nn.Module, head: nn.Module | None) -> nn.Module:
    """A classifier's parts under their usual names."""
    model = nn.Module()
    model.backbone = backbone
    if head is not None:
        model.head = head
    return model


def with_linear_head(backbone: nn.Module, state: State) -> nn.Module:
    """Likewise, the head being mmpretrain's linear one, if there are weights for it."""
    weight = state.get('head.fc.weight')
    return with_head(backbone, None if weight is None else LinearClsHead(*weight.shape))
