"""``mmtlalign``; what it hands on to is tested in test_commands."""

import re
import subprocess
import sys
from pkgutil import iter_modules

import pytest

import mmtlalign
from mmtlalign import __main__ as command
from mmtlalign import commands


@pytest.fixture
def ends_with(monkeypatch, capsys):
    """Run the command to its end; return status, standard output, error."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['/bin/mmtlalign', *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_help_names_the_commands_and_each_has_its_own(ends_with):
    status, out, _ = ends_with('--help')
    assert status == 0
    names = [name.replace('_', '-') for name in command.COMMANDS]
    assert all(re.search(rf'\n    {name}\s', out) for name in names)
    for name in names:
        status, out, _ = ends_with(name, '--help')
        assert (status, out.split(' [')[0]) == (0, f'usage: mmtlalign {name}')
        assert f'\n    mmtlalign {name} ' in out  # an example
    modules = {module.name for module in iter_modules(commands.__path__)}
    assert modules >= command.COMMANDS.keys()


def test_a_shell_learns_all_commands_and_their_options(ends_with, monkeypatch):
    pytest.importorskip(
        'shtab', reason='shtab is not installed; run `bash tools/setup_env.sh --dev`'
    )
    status, out, _ = ends_with('--print-completion', 'bash')
    assert status == 0
    for word in ('fidelity', '--bootstrap', '--window-size', '--resume'):
        assert word in out
    assert subprocess.run(['bash', '-n'], input=out, text=True).returncode == 0
    monkeypatch.setitem(sys.modules, 'shtab', None)
    line = 'mmtlalign: completion needs shtab: pip install shtab'
    assert ends_with('--print-completion', 'zsh')[0] == line


@pytest.mark.parametrize(
    'arguments, line',
    [
        ('', 'the following arguments are required: COMMAND'),
        ('trian x.py', "invalid choice: 'trian'"),
        ('test x.py', 'mmtlalign test: error: the following arguments are'),
    ],
)
def test_wrong_arguments_are_told_with_the_usage(ends_with, arguments, line):
    status, _, error = ends_with(*arguments.split())
    assert status == 2 and error.startswith('usage: mmtlalign') and line in error


def test_an_unknown_config_is_told_with_the_closest(ends_with):
    status, *_ = ends_with('train', 'tlalign_deit-digit')
    assert status.startswith("mmtlalign train: config 'tlalign_deit-digit' does not exist")
    assert "(closest: 'tlalign_deit-digits_1xb32_digits')" in status


def test_the_module_is_the_command():
    command = [sys.executable, '-m', 'mmtlalign', '--version']
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f'mmtlalign {mmtlalign.__version__}\n'
