"""Notice a checkpoint that belongs to another model."""
import re

from mmengine.runner import CheckpointLoader
from torch import nn

from .errors import UserError


def check_checkpoint(model: nn.Module, path: str) -> None:
    """Load a checkpoint strictly; the host only logs what does not fit.

    The module's own resizing and renaming at load time is respected.

    Args:
        model (nn.Module): Not wrapped. Its weights are overwritten.
        path (str): File or URL.

    Raises:
        UserError: If the file cannot be read, or naming the first keys or
            shapes that do not fit.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        state = checkpoint.get('state_dict', checkpoint)
    except Exception as error:  # unpickling garbage can raise anything
        raise UserError(
            f"checkpoint '{path}' cannot be read ({type(error).__name__}: "
            f'{error}); it is damaged or no checkpoint') from error
    state = {re.sub(r'^module\.', '', key): v for key, v in state.items()}
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        first = str(error).splitlines()[1].strip()
        raise UserError(_does_not_fit(path, model, first)) from None
    wrong = [f'{len(keys)} {kind} (first: {keys[0]})' for kind, keys in (
        ('keys missing in the file', found.missing_keys),
        ('keys unknown to the model', found.unexpected_keys)) if keys]
    if wrong:
        raise UserError(_does_not_fit(path, model, ', '.join(wrong)))


def _does_not_fit(path: str, model: nn.Module, why: str) -> str:
    """The one line of every refusal."""
    return (f"checkpoint '{path}' does not fit the config's "
            f'{type(model).__name__}: {why}; give the checkpoint that was '
            'trained with this config, or the config it was trained with')
