from shlex import split

import pytest

from mmtlalign.commands.console import FILE_ONLY

from ..tiny import CONFIG

SHORT = CONFIG + 'train_cfg.update(max_epochs=1)\n'
# the runner for strategies, which sharding takes
FLEXIBLE = SHORT + "runner_type = 'FlexibleRunner'\n"


@pytest.fixture
def train(here, tmp_path, capsys, terminal):
    """Train; returns what the console shows, and what the log file has."""

    def run(config):
        (tmp_path / 'tiny.py').write_text(config)
        here('train.py', 'tiny.py', '--work-dir', tmp_path / 'a run')
        (log,) = (tmp_path / 'a run').glob('*/*.log')
        return capsys.readouterr().out, log.read_text()

    return run


def shows_what_fills_screens(text):
    beginnings = ('System environment:', 'Config:\n', 'Hooks will be executed', 'paramwise_options')
    found = {beginning in text for beginning in beginnings}
    assert len(found) == 1
    return found.pop()


def test_messages_that_only_begin_alike_are_shown():
    option = 'paramwise_options -- backbone.ln1.bias:weight_decay=0.0'
    assert FILE_ONLY.match(option)
    for message in (f'{option} and more', 'Config: a path', 'Hooks will be registered'):
        assert not FILE_ONLY.match(message)


@pytest.mark.slow
@pytest.mark.parametrize('term, bar', [('xterm', True), ('dumb', False)])
def test_a_terminal_shows_a_bar_in_place_of_the_lines_on_steps(train, monkeypatch, term, bar):
    monkeypatch.setenv('TERM', term)
    console, log = train(SHORT)
    assert shows_what_fills_screens(log) and not shows_what_fills_screens(console)
    assert '(train)' in log and ('(train)' in console) is not bar
    assert ('images/s' in console and '100%' in console) is bar
    assert '(val)' in console


@pytest.mark.slow
def test_the_end_says_what_next(train, here, tmp_path, capsys):
    console, log = train(FLEXIBLE)
    assert shows_what_fills_screens(log) and not shows_what_fills_screens(console)
    assert '(train)' not in console and 'images/s' in console and '100%' in console
    test, publish = map(split, console[console.index('next:') :].splitlines()[1:])
    assert test[-4] == publish[-4] == 'mmtlalign'
    here('test.py', *test[-2:])
    assert 'accuracy/top1' in capsys.readouterr().out
    here('publish_model.py', *publish[-2:])
    assert list((tmp_path / 'published').glob('a_run_*.safetensors'))
