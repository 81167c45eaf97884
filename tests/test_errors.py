import signal

import pytest

from mmtlalign.errors import UserError, one_line_errors


@pytest.mark.parametrize(
    'rank, code', [(None, 'train.py: no such thing'), ('0', 'train.py: no such thing'), ('1', 1)]
)
def test_a_user_error_ends_the_program_in_one_line(monkeypatch, rank, code):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        raise UserError('no such thing')
    assert ended.value.code == code


def test_debug_shows_the_trace_as_well(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['train.py', '--debug'])
    with pytest.raises(SystemExit, match='^train.py: no such thing$'), one_line_errors('train.py'):
        raise UserError('no such thing')
    assert 'Traceback' in capsys.readouterr().err


def test_an_interrupted_program_says_so(capsys):
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == '\ntrain.py: interrupted\n'


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGHUP'])
def test_a_signal_ends_the_program_in_one_line(hangup_ends, capsys, name):
    number = signal.Signals[name]
    with pytest.raises(SystemExit) as ended, one_line_errors('test.py'):
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == f'test.py: stopped by {name}\n'


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with one_line_errors('test.py'):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('error', [ValueError, AssertionError, OSError])
def test_other_errors_keep_their_stack_trace(error):
    with pytest.raises(error), one_line_errors('train.py'):
        raise error('ours')
