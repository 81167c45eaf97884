"""Errors that are the user's to mend, told in one line."""
import os
import sys
from contextlib import contextmanager


class UserError(Exception):
    """Something a user can put right; shown without a stack trace."""


@contextmanager
def one_line_errors(program: str):
    """End the program with one line on stderr and status 1 on a UserError.

    Of several processes, the first one on each machine says it.

    Args:
        program (str): Name that starts the line, e.g. ``'train.py'``.
    """
    try:
        yield
    except UserError as error:
        first = os.environ.get('LOCAL_RANK', '0') == '0'
        sys.exit(f'{program}: {error}' if first else 1)
