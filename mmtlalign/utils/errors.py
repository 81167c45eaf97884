"""Errors that are the user's to mend, told in one line."""
import os
import sys
from contextlib import contextmanager


class UserError(Exception):
    """Something a user can put right; shown without a stack trace."""


@contextmanager
def one_line_errors(program: str):
    """End the program with one line on stderr where a trace is no help.

    That is on a UserError, with status 1, and on Ctrl-C, with the customary
    130. Of several processes, the first one on each machine says it.

    Args:
        program (str): Name that starts the line, e.g. ``'train.py'``.
    """
    first = os.environ.get('LOCAL_RANK', '0') == '0'
    try:
        yield
    except UserError as error:
        sys.exit(f'{program}: {error}' if first else 1)
    except KeyboardInterrupt:
        if first:
            print(f'\n{program}: interrupted', file=sys.stderr)
        sys.exit(130)
