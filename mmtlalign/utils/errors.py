"""Errors that are the user's to mend, told in one line."""
import sys
from contextlib import contextmanager


class UserError(Exception):
    """Something a user can put right; shown without a stack trace."""


@contextmanager
def one_line_errors(program: str):
    """End the program with one line on stderr and status 1 on a UserError.

    Args:
        program (str): Name that starts the line, e.g. ``'train.py'``.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f'{program}: {error}')
