"""Read the data of a config, say what is there, and draw samples.

mmtlalign check my_config.py
mmtlalign check my_config.py --check full --json found.json
mmtlalign check my_config.py --check-picture samples.png
"""

import argparse
import json

from mmtlalign.commands.checks import check_data, draw_samples, report
from mmtlalign.commands.command_line import (
    add_cfg_options,
    add_check_arguments,
    add_picture_argument,
    add_trust_argument,
    make_folder_of,
    make_folder_of_picture,
    new_parser,
)
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.unread_keys import merge_options
from mmtlalign.host_check import check_host
from mmtlalign.output_files import write_whole
from mmtlalign.resources import check_model, open_config


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that comes along')
    parser.add_argument('--json', metavar='OUT', help='also write what was found to this file')
    add_check_arguments(parser)
    add_picture_argument(parser)
    add_cfg_options(parser)
    add_trust_argument(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    if args.json:
        make_folder_of(args.json, '--json')
    if args.check_picture:
        make_folder_of_picture(args.check_picture, '--check-picture')
    cfg = open_config(args.config, args.trust)
    check_model(cfg)
    merge_options(cfg, args.cfg_options, args.allow_unread)
    use_own_loaders(cfg, args.apply_exif)
    check_host(cfg)
    findings = check_data(cfg, 'train', 'val', 'test', full=args.check == 'full')
    print('\n'.join(report(findings)))
    if args.json:
        write_whole(args.json, json.dumps([found.as_dict() for found in findings], indent=1) + '\n')
    if args.check_picture:
        draw_samples(cfg, args.check_picture)
        print(f'picture: {args.check_picture}')
