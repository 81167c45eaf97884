"""What commands have in common: arguments, and what these name."""

import argparse
import os
import os.path as osp
import re
import sys
from collections.abc import Callable
from math import inf

from mmengine.config import Config, DictAction

from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.unread_keys import merge_options, unread_variables
from mmtlalign.errors import UserError, warn
from mmtlalign.resources import check_model, open_config

# What pictures may be written as.
PICTURES = ('.png', '.jpg', '.pdf', '.svg')


class Parser(argparse.ArgumentParser):
    """One that takes no empty argument: ``--out "$UNSET"`` would be as if it were not given."""

    def parse_known_args(self, args=None, namespace=None):
        if '' in (sys.argv[1:] if args is None else args):
            raise UserError('an argument is empty: give its value, or leave its option out')
        return super().parse_known_args(args, namespace)


def ending(*suffixes: str) -> Callable[[str], str]:
    """For argparse: the type of names of files that end in one of these."""

    def check(text: str) -> str:
        if text.endswith(suffixes):
            return text
        raise argparse.ArgumentTypeError(f"'{text}' must end in {' or '.join(suffixes)}")

    return check


def number(kind: type, low: float, high: float = inf) -> Callable[[str], float]:
    """For argparse: the type of numbers within limits, which are included."""

    def check(text: str) -> float:
        value = kind(text)
        if low <= value <= high:
            return value
        limits = f'lie between {low} and {high}' if high < inf else f'be at least {low}'
        raise argparse.ArgumentTypeError(f'{text} must {limits}')

    check.__name__ = kind.__name__  # argparse names it where text is no number
    return check


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring, examples included."""
    parser = Parser(
        # which formatting leaves at the margin where there is nothing else
        description=re.sub('^mmtlalign ', '    mmtlalign ', doc, flags=re.MULTILINE),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # read by mmtlalign.errors.one_line_errors, which is there before it
    parser.add_argument('--debug', action='store_true', help='show the stack trace of errors')
    return parser


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing take."""
    parser.add_argument(
        '--work-dir', help='folder for logs and results (default: work_dirs/<name of the config>)'
    )
    add_cfg_options(parser)
    add_trust_argument(parser)
    add_check_arguments(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        default=0,
        help='set by some launchers, not by people',
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, for :func:`merge_options`."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='config entries to override, e.g. optim_wrapper.optimizer.lr=1e-3'
        ' or key="[(a,b),(c,d)]" (quoted, without white space)',
    )
    parser.add_argument(
        '--allow-unread', action='store_true', help='also set entries that nothing is known to read'
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add what all commands have that read checkpoints."""
    parser.add_argument(
        '--trust',
        action='store_true',
        help='also load checkpoints that hold more than weights, and configs in YAML or JSON '
        'that name code; that runs whatever code it is',
    )


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what commands have that look at data before they use them."""
    parser.add_argument(
        '--check',
        choices=['sample', 'full'],
        default='sample',
        help='how much is read of large data sets beforehand: all annotation files, and of '
        'images and label maps some (default) or all; what was read once is not read again',
    )
    parser.add_argument(
        '--apply-exif',
        action='store_true',
        help='detection and segmentation: turn images as their EXIF orientation says where sizes '
        'leave open which way up they were annotated',
    )


def add_picture_argument(parser: argparse.ArgumentParser) -> None:
    """Add what commands have that read training data."""
    parser.add_argument(
        '--check-picture',
        metavar='OUT.png',
        help='draw sixteen training samples as the model will see them',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and merge the common arguments, options last.

    Raises:
        UserError: If there is no such config, it cannot be read, or it has no model.
    """
    local_rank = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', args.local_rank)
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    cfg = open_config(args.config, args.trust)
    check_model(cfg)
    cfg.launcher = args.launcher
    name = osp.splitext(osp.basename(cfg.filename))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    if os.environ['LOCAL_RANK'] == '0':
        for name, near in unread_variables(cfg).items():
            warn(f"nothing reads {name} of '{cfg.filename}'; the nearest that is read is {near}")
    merge_options(cfg, args.cfg_options, args.allow_unread)
    use_own_loaders(cfg, args.apply_exif)
    return cfg


def make_out_folder(path: str | os.PathLike, option: str = '--out', what: str = 'folder') -> None:
    """Create a folder that an option names, or one in it; a UserError if impossible."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{what} '{path}' cannot be made ({error.strerror}); choose another with {option}"
        ) from None
    if not os.access(path, os.W_OK):
        raise UserError(f"{what} '{path}' cannot be written; choose another with {option}")


def make_folder_of(path: str | os.PathLike, option: str = '--out') -> None:
    """Likewise, the folder of the file that an option names, which must be no folder itself."""
    if osp.isdir(path):
        raise UserError(f"'{path}' is a folder; name a file with {option}")
    make_out_folder(osp.dirname(path) or '.', option)
    if osp.exists(path):
        warn(f"'{path}' is there already, and will be replaced")


def make_folder_of_picture(path: str | os.PathLike, option: str = '--out') -> None:
    """Likewise, of a picture, whose name tells its format."""
    if not str(path).endswith(PICTURES):
        raise UserError(f"{option} '{path}' must end in {', '.join(PICTURES)}")
    make_folder_of(path, option)


def check_absent(path: str | os.PathLike) -> None:
    """Raise a UserError if something would be written over."""
    if os.path.lexists(path):
        raise UserError(f"'{path}' exists already; remove it or write elsewhere with --out")


def check_file(path: str, what: str) -> None:
    """Raise a UserError unless the path is a file or a remote address."""
    if '://' not in path and not osp.isfile(path):
        raise UserError(f"{what} '{path}' does not exist")
