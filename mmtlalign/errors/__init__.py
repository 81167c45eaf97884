"""Errors that are the user's to mend, told in one line."""

from .boundary import one_line_errors
from .kinds import explain, is_own_code, said_in_worker
from .user_error import DamagedFile, LocalError, StoppedBySignal, UserError, first_line, in_one_line

__all__ = [
    'DamagedFile',
    'LocalError',
    'StoppedBySignal',
    'UserError',
    'explain',
    'first_line',
    'in_one_line',
    'is_own_code',
    'one_line_errors',
    'said_in_worker',
]
