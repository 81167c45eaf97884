"""A file that a pipeline cannot read is named, whatever reads it."""

import traceback
from functools import wraps

from mmcv.transforms import BaseTransform

from mmtlalign.errors import LocalError, UserError, first_line, is_own_code

# Where samples say what they are read from, in the order that steps read.
PATHS = ('img_path', 'seg_map_path', 'filename')


def name_unreadable_files() -> None:
    """Make the hosts' loading steps say which file they fail on.

    What a decoder raises does not name it, and of an error in a data-loading
    worker nothing but text arrives.
    """
    call = BaseTransform.__call__
    if hasattr(call, '__wrapped__'):
        return

    @wraps(call)
    def load(self, results):
        try:
            return call(self, results)
        except UserError:
            raise
        except Exception as error:
            path = path_in_hand(self, results)
            frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
            if path is None or is_own_code(frames):
                raise
            reason = first_line(error)
            if path not in reason:
                reason = f'failed to load image: {path} ({type(error).__name__}: {reason})'
            raise LocalError(
                f'{reason}: get the file again or take it out of the data set'
            ) from error

    BaseTransform.__call__ = load


def path_in_hand(step: BaseTransform, results) -> str | None:
    """What a step that loads something reads; None for other steps."""
    if not type(step).__name__.startswith('Load') or not isinstance(results, dict):
        return None
    keys = PATHS if 'Image' in type(step).__name__ else PATHS[::-1]
    return next((str(results[key]) for key in keys if results.get(key)), None)
