"""Errors that are the user's to mend, told in one line."""

from .boundary import ending_signals, one_line_errors
from .kinds import explain, is_own_code, said_in_worker
from .user_error import (
    DamagedFile,
    LocalError,
    StoppedBySignal,
    UserError,
    first_line,
    in_one_line,
    warn,
)

__all__ = [
    'DamagedFile',
    'LocalError',
    'StoppedBySignal',
    'UserError',
    'ending_signals',
    'explain',
    'first_line',
    'in_one_line',
    'is_own_code',
    'one_line_errors',
    'said_in_worker',
    'warn',
]
