"""What commands have in common that measure classifiers on test images."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track

from mmtlalign.commands.command_line import (
    add_cfg_options,
    add_trust_argument,
    ending,
    make_folder_of,
)
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.unread_keys import merge_options
from mmtlalign.output_files import write_whole, written_beside
from mmtlalign.resources import check_class, check_data_of, open_config


def add_measuring_arguments(parser: argparse.ArgumentParser, out: str, drawn: str) -> None:
    """Add the file to write by default, a seed of what is drawn, and what opens the rest."""
    parser.add_argument('--seed', type=int, default=0, help=f'of {drawn}')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument(
        '--out', type=ending('.json'), default=out, help='.json to write; a .png goes beside it'
    )
    add_cfg_options(parser)
    add_trust_argument(parser)


def open_tested(args: argparse.Namespace, expected: type) -> Config:
    """The config, options included, of a model of that class and with data to test on."""
    make_folder_of(args.out)
    cfg = open_config(args.config, args.trust)
    merge_options(cfg, args.cfg_options, args.allow_unread)
    check_class(cfg, expected)
    check_data_of(cfg, 'test')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    use_own_loaders(cfg)
    return cfg


def progress(items: Iterable, what: str, total: int) -> Iterable:
    """A bar with the time left."""
    return track(items, what, total=total, console=Console(stderr=True))


def save(figures: dict, out: str) -> None:
    """Write what is known so far."""
    write_whole(out, json.dumps(figures, indent=1) + '\n')


def save_picture(figure: Figure, out: str) -> Path:
    """Write it beside the figures; return where."""
    path = Path(out).with_suffix('.png')
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=110)
    return path
