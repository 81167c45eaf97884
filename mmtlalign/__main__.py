"""The command ``mmtlalign``, and how the scripts in ``tools/`` start."""

import argparse
import os.path as osp
import sys
from importlib import import_module

from mmtlalign import __version__
from mmtlalign.errors import UserError, one_line_errors

# Modules of mmtlalign.commands, imported when they are asked for.
COMMANDS = dict(
    train='train a classifier, detector or segmenter from its config',
    test='test one: a config and its checkpoint',
    check='read the data of a config, say what is there, draw samples',
    demo='draw what a model sees in images',
    publish='make a checkpoint into the files that people download',
    export='write ONNX or torch.export, to run without this code',
    convert="change a file's layout: papers', timm's, mmpretrain's",
    robustness='accuracy on disturbed images, calibration',
    fidelity='whether labels say what a model does with mixes',
    visualize='draw how the labels of two mixed images move',
    report='write one page about a run, or compare several',
    curves='draw the learning curves of a training',
    token_labels='make dense score maps to train on',
)


def main() -> None:
    """Let a command do what the first argument says, with all the others."""
    with one_line_errors('mmtlalign'):
        words = sys.argv[1 : 3 if '--print-completion' in sys.argv[1:2] else 2]
        command = make_parser().parse_args(words).command
    sys.argv = [f'mmtlalign {command}', *sys.argv[2:]]
    run(command.replace('-', '_'))


def run(name: str) -> None:
    """Run a command; a user's mistake ends the process in one line.

    Args:
        name (str): Of a module of :mod:`mmtlalign.commands`.
    """
    # names of files need not be UTF-8
    sys.stdout.reconfigure(errors='backslashreplace')
    with one_line_errors(osp.basename(sys.argv[0]), resumable=name == 'train'):
        import_module(f'mmtlalign.commands.{name}').main()


def make_parser() -> argparse.ArgumentParser:
    """Of the command's own arguments."""
    parser = argparse.ArgumentParser(
        prog='mmtlalign',
        description='Token-label alignment (TL-Align) for vision transformers.',
        epilog='mmtlalign COMMAND --help tells more, with an example.',
    )
    parser.add_argument('--version', action='version', version=f'mmtlalign {__version__}')
    parser.add_argument(
        '--print-completion',
        choices=['bash', 'zsh', 'tcsh'],
        action=PrintCompletion,
        help='what makes a shell complete commands '
        'and options: eval "$(mmtlalign --print-completion bash)"',
    )
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, what in COMMANDS.items():
        commands.add_parser(name.replace('_', '-'), help=what)
    return parser


class PrintCompletion(argparse.Action):
    """Print a shell's completion of all commands, and end."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            import shtab
        except ImportError:
            raise UserError('completion needs shtab: pip install shtab') from None
        full = argparse.ArgumentParser(prog='mmtlalign')
        commands = full.add_subparsers()
        for name, what in COMMANDS.items():
            command = import_module(f'mmtlalign.commands.{name}')
            commands.add_parser(
                name.replace('_', '-'), help=what, add_help=False, parents=[command.make_parser()]
            )
        print(shtab.complete(full, values))
        parser.exit()


if __name__ == '__main__':
    main()
