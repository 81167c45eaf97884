"""The command ``mmtlalign``: the main tools, without a checkout."""
import argparse
import importlib.util
import sys
from types import ModuleType

from mmtlalign import __version__
from mmtlalign.utils import one_line_errors
from mmtlalign.utils.resources import ROOT

COMMANDS = dict(
    train='train a classifier, detector or segmenter from its config',
    test='test one: a config and its checkpoint')


def main() -> None:
    """Let a tool do what the first argument says, with all the others."""
    parser = argparse.ArgumentParser(
        prog='mmtlalign', description='Token-label alignment (TL-Align) for '
        'vision transformers.', epilog='mmtlalign COMMAND --help tells more.')
    parser.add_argument('--version', action='version',
                        version=f'mmtlalign {__version__}')
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True)
    for name, what in COMMANDS.items():
        commands.add_parser(name, help=what)
    command = parser.parse_args(sys.argv[1:2]).command

    sys.argv = [f'mmtlalign {command}', *sys.argv[2:]]
    tool = load_tool(command)
    with one_line_errors(sys.argv[0]):
        tool.main()


def load_tool(name: str) -> ModuleType:
    """Import ``tools/<name>.py``, which lies in no package."""
    spec = importlib.util.spec_from_file_location(
        name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == '__main__':
    main()
