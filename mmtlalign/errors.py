"""Errors that are the user's to mend, told in one line."""
import os
import sys
import traceback
from contextlib import contextmanager

# The file, in each of the hosts, that reads images and annotations.
LOADING = os.path.join('transforms', 'loading.py')


class UserError(Exception):
    """Something a user can put right; shown without a stack trace."""


@contextmanager
def one_line_errors(program: str, resumable: bool = False):
    """End the program with one line on stderr where a trace is no help.

    That is on a UserError and on an image that a pipeline cannot load, with
    status 1, and on Ctrl-C, with the customary 130. Of several processes, the
    first one on each machine says it; every one, if an image is to blame,
    since only one process may have met it.

    Args:
        program (str): Name that starts the line, e.g. ``'train.py'``.
        resumable (bool): Whether it goes on where it stopped if it is given
            ``--resume``. Defaults to False.
    """
    first = os.environ.get('LOCAL_RANK', '0') == '0'
    try:
        yield
    except UserError as error:
        sys.exit(f'{program}: {error}' if first else 1)
    except (AssertionError, OSError) as error:
        # What a worker met arrives as text, with the message in its last line.
        lines = str(error).splitlines()
        if not lines or LOADING not in traceback.format_exc():
            raise
        sys.exit(f'{program}: {lines[-1]}: get the file again or take it out '
                 'of the data set, and give the same command again'
                 + (' (with --resume, it goes on from its last checkpoint)'
                    if resumable else ''))
    except KeyboardInterrupt:
        if first:
            print(f'\n{program}: interrupted', file=sys.stderr)
        sys.exit(130)
