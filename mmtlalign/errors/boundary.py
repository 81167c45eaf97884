"""Where errors of all commands end: in one line, if a user can mend them."""

import os
import signal
import sys
import traceback
from contextlib import contextmanager

from .kinds import explain
from .user_error import LocalError, StoppedBySignal, UserError, in_one_line


def ending_signals() -> list[signal.Signals]:
    """What asks a program to end, besides Ctrl-C: that its terminal has gone, too, unless it was
    started to outlive that (nohup)."""
    outlives = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGUSR1] + [signal.SIGHUP] * (not outlives)


def stop(number: int, frame) -> None:
    """Heed a signal at once, which ends the children that a command has.

    Raises:
        StoppedBySignal: Always.
    """
    raise StoppedBySignal(number, f'stopped by {signal.Signals(number).name}')


@contextmanager
def one_line_errors(program: str, resumable: bool = False):
    """End the program with one line on stderr where a trace is no help.

    That is on a UserError and on the kinds of error that :func:`explain` knows, with status 1, and
    on Ctrl-C, with the customary 130. Of several processes, the first one on each machine says it;
    every one, if only one process may have met it. ``--debug`` among the arguments shows the trace.

    Args:
        program (str): Name that starts the line, e.g. ``'train.py'``.
        resumable (bool): Whether it goes on where it stopped if it is given
            ``--resume``. Defaults to False.
    """
    first = os.environ.get('LOCAL_RANK', '0') == '0'
    handlers = {number: signal.signal(number, stop) for number in ending_signals()}
    try:
        yield
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except StoppedBySignal as signalled:
        if first:
            print(in_one_line(f'{program}: {signalled}'), file=sys.stderr)
        sys.exit(signalled.status)
    except KeyboardInterrupt:
        if first:
            print(f'\n{program}: interrupted', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        if '--debug' in sys.argv:
            traceback.print_exception(error)
        if isinstance(error, LocalError) and resumable:
            line += (
                ', and give the same command again (with --resume, it '
                'goes on from its last checkpoint)'
            )
        line = in_one_line(f'{program}: {line}')
        is_first_ones = isinstance(error, UserError) and not isinstance(error, LocalError)
        sys.exit(1 if is_first_ones and not first else line)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
