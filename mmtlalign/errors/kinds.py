"""Kinds of error that a user can mend, and what to say of them."""

import errno
import os
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import CodeType, FrameType

from .user_error import UserError, first_line

PACKAGE = str(Path(__file__).parents[1]) + os.sep
# What a path must lie under for its code to be nobody's own.
LIBRARIES = tuple(
    str(Path(folder).resolve()) + os.sep
    for folder in {
        Path(__file__).parents[1],
        *site.getsitepackages(),
        site.getusersitepackages(),
        sysconfig.get_path('purelib'),
        sysconfig.get_path('platlib'),
    }
)
STANDARD = (str(Path(sysconfig.get_path('stdlib')).resolve()) + os.sep, '<frozen ')

# What to do about an error of the operating system.
BY_ERRNO = {
    errno.ENOSPC: 'free some space, or write elsewhere',
    errno.EDQUOT: 'free some of your quota, or write elsewhere',
    errno.EFBIG: 'raise the limit (ulimit -f), or write elsewhere',
    errno.EROFS: 'write elsewhere',
    errno.EACCES: "change the file's permissions, or name another",
    errno.EPERM: "change the file's permissions, or name another",
    errno.ENOENT: 'give a path that exists',
    errno.ENOTDIR: 'give a path that exists',
    errno.EISDIR: 'name a file',
    errno.EEXIST: 'remove it, or write elsewhere',
    errno.EMFILE: 'raise the limit (ulimit -n), or set fewer num_workers',
    errno.ENFILE: 'end other programs, or set fewer num_workers',
    errno.ENAMETOOLONG: 'give a shorter name',
    errno.ENOMEM: 'end other programs, or set a smaller batch_size',
    errno.EIO: 'the disk or its connection fails: write elsewhere',
    errno.ESTALE: 'the network folder has gone: mount it again',
    errno.EADDRINUSE: 'another program has that port: set another PORT',
}

# Errors of libraries by what they say, since their class tells too little.
BY_WORDS = (
    (
        r'DataLoader worker .*(killed by signal|exited unexpectedly)',
        'a process that loads data has ended ({}): mostly the machine ran out of memory, or '
        '/dev/shm is full; set fewer num_workers or a smaller batch_size',
    ),
    (
        r'(unable to|could not|cannot).*(shared memory|shm|/torch_)|'
        r'unable to write to file </torch',
        'shared memory is used up ({}): free /dev/shm (in a container, give it '
        'more with --shm-size), or set num_workers=0',
    ),
    (
        r'out of memory|can.t allocate memory|not enough memory',
        'out of memory ({}): set a smaller batch_size, or use --amp',
    ),
    (
        r'EADDRINUSE|[Aa]ddress already in use',
        'another program has the port that the processes talk by ({}): set another PORT',
    ),
    (
        r'No space left on device|failed writing file',
        'a file cannot be written ({}): free some space, or write elsewhere',
    ),
    (
        r'shapes cannot be multiplied|must match the size of tensor|'
        r'expected input.* to have \d+ channels|Given groups=|'
        r"Given normalized_shape|shape '.*' is invalid for input of size",
        "parts of the config's model do not fit each other ({}): compare their channels and sizes",
    ),
    (
        r'environment variable \w+ expected, but not set',
        '--launcher is for processes that a launcher has started ({}): use tools/dist_train.sh, '
        'or leave it out',
    ),
    (
        r'weight tensor should be defined either for all',
        "class_weight of the config's loss is not one number for each class ({})",
    ),
)


def explain(error: Exception) -> str | None:
    """One line for an error that a user can mend.

    Returns:
        str: What is wrong and what to do; None for an error that is not
        known, or that came out of code of the user's own.
    """
    if isinstance(error, UserError):
        return said_in_worker(error) or str(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or is_own_code(frames):
        return None
    for know in (by_kind, by_words, by_refusal, by_place):
        if line := know(error, frames):
            return line
    return None


def said_in_worker(error: Exception) -> str | None:
    """What an error of a data-loading worker says: torch hands it on with its
    trace before it, as text."""
    start, _, trace = str(error).partition('\nOriginal Traceback')
    if not trace or not start.startswith('Caught '):
        return None
    return trace.rstrip().splitlines()[-1].partition(': ')[2]


def is_own_code(frames: list[FrameType]) -> bool:
    """Whether the code that failed is the user's, the standard library left out."""
    for frame in reversed(frames):
        path = frame.f_code.co_filename
        if os.path.isabs(path):  # else of no file, such as <frozen ...>
            path = os.path.realpath(path)
        if path.startswith(LIBRARIES) or path.endswith('.pyx'):
            return False  # which may lie within the standard one
        if not path.startswith(STANDARD):
            return True
    return False


def by_kind(error: Exception, frames: list[FrameType]) -> str | None:
    """An error of files or memory, by its class."""
    path = file_in_hand(frames)
    if isinstance(error, OSError) and error.errno in BY_ERRNO:
        name = error.filename if error.filename is not None else path
        what = f"'{os.fsdecode(name)}'" if isinstance(name, (str, bytes, os.PathLike)) else 'a file'
        return f'{what} cannot be used ({os.strerror(error.errno)}); {BY_ERRNO[error.errno]}'
    if isinstance(error, MemoryError):
        return f'out of memory ({first_line(error)}): set a smaller batch_size'
    if isinstance(error, UnicodeEncodeError):
        name = f"the name '{error.object:.200}'"
        return f'{name} is not UTF-8, and cannot be written; rename the file'
    if isinstance(error, UnicodeError):
        what = repr(path) if path else 'a file'
        return (
            f'{what} is not text in UTF-8 ({error}); convert it (iconv -f latin1 -t utf8), or '
            'give another'
        )
    if path and is_of_a_reader(error):
        return (
            f"'{path}' cannot be read ({type(error).__name__}: "
            f'{first_line(error)}); get the file again, or correct it'
        )
    return None


def is_of_a_reader(error: Exception) -> bool:
    """Whether an error is one of those that parsers of files raise."""
    modules = {cls.__module__.split('.')[0] for cls in type(error).__mro__}
    return bool(
        modules & {'yaml', 'json', 'cv2', 'PIL', 'xml', 'zipfile', 'pickle', '_pickle'}
    ) or isinstance(error, (ValueError, EOFError))


def by_words(error: Exception, frames: list[FrameType]) -> str | None:
    """A library's error of no kind of its own, by what it says."""
    if not isinstance(error, (RuntimeError, ValueError)):
        return None
    for pattern, line in BY_WORDS:
        if found := re.search(f'.*({pattern}).*', str(error)):
            return line.format(found[0].strip().rstrip('.'))
    return None


def by_refusal(error: Exception, frames: list[FrameType]) -> str | None:
    """What a part of this package has refused, which says why."""
    *_, last = traceback.extract_tb(error.__traceback__)
    is_raised_here = last.filename.startswith(PACKAGE) and (last.line or '').startswith('raise ')
    return str(error) if is_raised_here and isinstance(error, (TypeError, ValueError)) else None


def by_place(error: Exception, frames: list[FrameType]) -> str | None:
    """An error out of the host, by what the host was doing."""
    places = hosts_at_work()
    for frame in reversed(frames):
        if frame.f_code in places:
            return places[frame.f_code](error, frame)
    return None


def hosts_at_work() -> dict[CodeType, Callable[[Exception, FrameType], str]]:
    """What to say of an error below each function that makes something of a user's."""
    runner = getattr(sys.modules.get('mmengine.runner'), 'Runner', None)
    registry = sys.modules.get('mmengine.registry')
    if not (runner and registry):
        return {}
    evaluator = sys.modules['mmengine.evaluator'].Evaluator
    parts = 'dataloader train_loop val_loop test_loop optim_wrapper param_scheduler evaluator model'
    return {
        evaluator.process.__code__: cannot_be_measured,
        evaluator.evaluate.__code__: cannot_be_measured,
        registry.build_from_cfg.__code__: cannot_be_built,
        runner.resume.__code__: cannot_be_resumed,
        runner.load_or_resume.__code__: cannot_be_resumed,
        runner.__init__.__code__: no_runner,
        runner.from_cfg.__func__.__code__: no_runner,
        **{getattr(runner, f'build_{part}').__code__: no_runner for part in parts.split()},
    }


def cannot_be_measured(error: Exception, frame: FrameType) -> str:
    """Predictions, or labels, that a metric has no use for."""
    names = ', '.join(type(metric).__name__ for metric in frame.f_locals['self'].metrics)
    return (
        f'{names} cannot be computed ({type(error).__name__}: {what_it_says(error)}); correct the '
        "evaluator's entries, or what the pipeline of its data loads"
    )


def what_it_says(error: Exception) -> str:
    """The first line; of a KeyError without quotes around it."""
    is_key = isinstance(error, KeyError) and error.args
    return str(error.args[0]) if is_key else first_line(error)


def cannot_be_built(error: Exception, frame: FrameType) -> str:
    """A part of a config that its class refuses."""
    kind = frame.f_locals['cfg'].get('type', '?')
    kind = getattr(kind, '__name__', kind)
    if isinstance(error, KeyError) and 'is not in the' in str(error):
        return unknown_type(kind, frame.f_locals['registry'])
    return (
        f'{kind} cannot be built as the config says ({type(error).__name__}: '
        f'{what_it_says(error)}); correct its entries, or set others with --cfg-options'
    )


def unknown_type(kind: str, registry) -> str:
    """A type that no registry has, and the closest that one has."""
    from difflib import get_close_matches

    root = registry.parent or registry
    names = {*registry.module_dict, *root.module_dict}
    for scope, child in root.children.items():
        names.update(f'{scope}.{name}' for name in child.module_dict)
    close = get_close_matches(str(kind), names, n=1)
    closest = f" (closest: '{close[0]}')" if close else ''
    return (
        f"type '{kind}' of the config is unknown among the {registry.name}s of '{registry.scope}'"
        f'{closest}; correct it, or name the module that has it in custom_imports'
    )


def cannot_be_resumed(error: Exception, frame: FrameType) -> str:
    """A checkpoint whose parts are not what they should be."""
    path = frame.f_locals.get('filename') or (frame.f_locals['self']._load_from)
    return (
        f"checkpoint '{path}' cannot be resumed ({type(error).__name__}: "
        f'{first_line(error)}); it is damaged or of another model: resume '
        'an earlier one, or begin anew with another --work-dir'
    )


def no_runner(error: Exception, frame: FrameType) -> str:
    """A config of which no training or test can be made."""
    return (
        f'the config makes no run ({type(error).__name__}: {first_line(error)}); correct it, or '
        'set other entries with --cfg-options'
    )


def file_in_hand(frames: list[FrameType]) -> str | None:
    """The file that a function of the hosts was reading, if one was."""
    for frame in reversed(frames):
        name = readers().get(frame.f_code)
        path = name and frame.f_locals.get(name)
        if isinstance(path, (str, os.PathLike)):
            return os.fspath(path)
    return None


def readers() -> dict:
    """By code, the variable that holds the path of what is read."""
    known = (
        ('mmengine.fileio', 'load', 'file'),
        ('mmengine.fileio', 'get', 'filepath'),
        ('mmengine.fileio', 'get_text', 'filepath'),
        ('mmengine.fileio', 'list_from_file', 'filename'),
        ('mmengine.fileio', 'dict_from_file', 'filename'),
        ('mmcv', 'imread', 'img_or_path'),
        ('pycocotools.coco', 'COCO.__init__', 'annotation_file'),
    )
    return {
        attrgetter(f'{function}.__code__')(sys.modules[module]): variable
        for module, function, variable in known
        if module in sys.modules
    }
