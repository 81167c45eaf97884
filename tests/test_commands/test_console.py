from shlex import split

import pytest

from mmtlalign.commands.console import FILE_ONLY

from ..tiny import write_project


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
def test_a_terminal_shows_a_bar_in_place_of_the_lines_on_steps_and_what_next(
    here, tmp_path, capsys, terminal, monkeypatch, term, bar
):
    monkeypatch.setenv('TERM', term)
    # with a bar by the runner for strategies, which sharding takes; by the other one it is seen
    # in the trainings of detectors and segmenters
    runner = "runner_type = 'FlexibleRunner'\n" * bar
    write_project(tmp_path, f'train_cfg.update(max_epochs=1)\n{runner}')
    here('train.py', 'tiny.py', '--work-dir', tmp_path / 'a run')
    console = capsys.readouterr().out
    (log,) = (path.read_text() for path in (tmp_path / 'a run').glob('*/*.log'))
    assert shows_what_fills_screens(log) and not shows_what_fills_screens(console)
    assert '(train)' in log and ('(train)' in console) is not bar
    assert ('images/s' in console and '100%' in console) is bar
    assert '(val)' in console

    test, publish = map(split, console[console.index('next:') :].splitlines()[1:])
    assert test[-4] == publish[-4] == 'mmtlalign'
    here('test.py', *test[-2:])
    assert 'accuracy/top1' in capsys.readouterr().out
    here('publish_model.py', *publish[-2:])
    assert list((tmp_path / 'published').glob('a_run_*.safetensors'))
