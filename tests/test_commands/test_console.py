import sys
from shlex import split

import pytest
from mmengine.logging import MMLogger

from mmtlalign.commands.console import FILE_ONLY, is_for_console
from projects.reliability.tasks import CLASSIFIER, DETECTOR, write_scenes

from ..conftest import needs_operators

SHORT = CLASSIFIER + 'train_cfg.update(max_epochs=1)\n'
# the runner for strategies, which sharding takes
FLEXIBLE = SHORT + "runner_type = 'FlexibleRunner'\n"


def test_parameter_options_go_to_the_file_alone(capsys, tmp_path):
    logger = MMLogger.get_instance('parameters', log_file=str(tmp_path / 'a.log'))
    logger.handlers[0].addFilter(is_for_console)
    option = 'paramwise_options -- backbone.ln1.bias:weight_decay=0.0'
    logger.info(option)
    logger.info(f'{option} and more')
    console = capsys.readouterr().out
    assert console.count(option) == 1 and f'{option} and more' in console
    assert (tmp_path / 'a.log').read_text().count(option) == 2
    # messages that only begin alike are shown
    assert not FILE_ONLY.match('Config: a path') and not FILE_ONLY.match('Hooks will be registered')


@pytest.mark.slow
@pytest.mark.parametrize('config', [SHORT, FLEXIBLE], ids=['Runner', 'FlexibleRunner'])
def test_what_fills_screens_is_in_the_file_and_the_end_says_what_next(
    here, tmp_path, capsys, config
):
    (tmp_path / 'tiny.py').write_text(config)
    here('train.py', 'tiny.py', '--work-dir', tmp_path / 'a run')
    console = capsys.readouterr().out
    (log,) = (tmp_path / 'a run').glob('*/*.log')
    for beginning in ('System environment:', 'Config:\n', 'Hooks will be executed'):
        assert beginning in log.read_text() and beginning not in console
    assert 'Epoch(train)' in console
    test, publish = map(split, console[console.index('next:') :].splitlines()[1:])
    assert test[-4] == publish[-4] == 'mmtlalign'
    here('test.py', *test[-2:])
    assert 'accuracy/top1' in capsys.readouterr().out
    here('publish_model.py', *publish[-2:])
    assert list((tmp_path / 'published').glob('a_run_*.safetensors'))


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, term',
    [
        (SHORT, 'xterm'),
        (SHORT, 'dumb'),
        pytest.param(FLEXIBLE, 'xterm', marks=pytest.mark.slow),
        pytest.param(DETECTOR, 'xterm', marks=pytest.mark.slow),
    ],
    ids=['Runner', 'dumb', 'FlexibleRunner', 'detector'],
)
def test_a_terminal_shows_a_bar_in_place_of_the_lines_on_steps(
    here, tmp_path, capsys, monkeypatch, config, term
):
    if config is DETECTOR:  # whose loader has batches of its own
        needs_operators()
        write_scenes(tmp_path)
    (tmp_path / 'tiny.py').write_text(config)
    for name in ('TTY_COMPATIBLE', 'TTY_INTERACTIVE', 'FORCE_COLOR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TERM', term)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    monkeypatch.setenv('COLUMNS', '150')
    here('train.py', 'tiny.py', '--work-dir', tmp_path / 'run')
    console = capsys.readouterr().out
    (log,) = (tmp_path / 'run').glob('*/*.log')
    bar = term == 'xterm'
    assert '(train)' in log.read_text() and ('(train)' in console) is not bar
    assert ('images/s' in console and '100%' in console) is bar
    assert '(val)' in console
