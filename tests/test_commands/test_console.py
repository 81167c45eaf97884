import sys
from shlex import split

import pytest
from mmengine.logging import MMLogger

from mmtlalign.commands.console import FILE_ONLY, is_for_console


def test_parameter_options_go_to_the_file_alone(capsys, tmp_path):
    logger = MMLogger.get_instance('parameters', log_file=str(tmp_path / 'a.log'))
    logger.handlers[0].addFilter(is_for_console)
    option = 'paramwise_options -- backbone.ln1.bias:weight_decay=0.0'
    logger.info(option)
    logger.info(f'{option} and more')
    console = capsys.readouterr().out
    assert console.count(option) == 1 and f'{option} and more' in console
    assert (tmp_path / 'a.log').read_text().count(option) == 2


def test_what_fills_screens_is_in_the_file_and_the_end_says_what_next(here, tmp_path, capsys):
    here('train.py', 'tiny.py', '--work-dir', tmp_path / 'run')
    console = capsys.readouterr().out
    (log,) = (tmp_path / 'run').glob('*/*.log')
    for beginning in ('System environment:', 'Config:\n', 'Hooks will be executed'):
        assert beginning in log.read_text() and beginning not in console
    assert 'Epoch(train)' in console
    run, command = console[console.index('next:') :].splitlines()[1].split(' test ')
    assert run.split()[-1] == 'mmtlalign'
    here('test.py', *split(command))
    assert 'accuracy/top1' in capsys.readouterr().out


@pytest.mark.parametrize('term, bar', [('xterm', True), ('dumb', False)])
def test_a_terminal_shows_a_bar_in_place_of_the_lines_on_steps(
    here, tmp_path, capsys, monkeypatch, term, bar
):
    for name in ('TTY_COMPATIBLE', 'TTY_INTERACTIVE', 'FORCE_COLOR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TERM', term)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    monkeypatch.setenv('COLUMNS', '150')
    here('train.py', 'tiny.py', '--work-dir', tmp_path / 'run')
    console = capsys.readouterr().out
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'Epoch(train)' in log.read_text() and ('Epoch(train)' in console) is not bar
    assert ('images/s' in console and '100%' in console) is bar
    assert 'Epoch(val)' in console


def test_messages_that_only_begin_alike_are_shown():
    assert not FILE_ONLY.match('Config: a path') and not FILE_ONLY.match('Hooks will be registered')
