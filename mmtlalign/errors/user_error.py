"""Errors that are the user's to mend, told in one line."""


class UserError(Exception):
    """Something a user can put right; shown without a stack trace."""


class LocalError(UserError):
    """One that a single process may have met, of several at work: it says so itself."""


class DamagedFile(UserError):
    """A file that is not what it was when it was written."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal that was heeded, and what came of it; like Ctrl-C no error
    that anybody but the command's boundary should catch."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number  # of the process


def in_one_line(text) -> str:
    """Text for a terminal: what is not printable is written as an escape.

    Names and keys out of files can hold line breaks, or codes that move the
    cursor and change colours.
    """
    return ''.join(
        char if char.isprintable() else char.encode('unicode_escape', 'surrogatepass').decode()
        for char in str(text)
    )


def warn(text: str) -> None:
    """Print a warning, which may hold names out of files, in one line."""
    print(in_one_line(f'warning: {text}'))


def first_line(error: BaseException) -> str:
    """What an exception says, without what libraries add below; its class if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)
