import signal

import pytest

from mmtlalign.errors import UserError, one_line_errors

MISTAKE, SAID = UserError('no such thing'), 'train.py: no such thing'


@pytest.mark.parametrize(
    'error, rank, code, err',
    [
        (MISTAKE, None, SAID, ''),
        (MISTAKE, '0', SAID, ''),
        (MISTAKE, '1', 1, ''),
        (KeyboardInterrupt(), '0', 130, '\ntrain.py: interrupted\n'),
    ],
)
def test_the_program_ends_in_one_line(monkeypatch, capsys, error, rank, code, err):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err == err


def test_debug_shows_the_trace_as_well(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['train.py', '--debug'])
    with pytest.raises(SystemExit, match=f'^{SAID}$'), one_line_errors('train.py'):
        raise MISTAKE
    assert 'Traceback' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGHUP'])
def test_a_signal_ends_the_program_in_one_line(hangup_ends, capsys, name):
    number = signal.Signals[name]
    with pytest.raises(SystemExit) as ended, one_line_errors('test.py'):
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == f'test.py: stopped by {name}\n'


def test_a_signal_that_is_ignored_stays_so(hangup_ends):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with one_line_errors('test.py'):
        signal.raise_signal(signal.SIGHUP)


@pytest.mark.parametrize('error', [ValueError, AssertionError, OSError])
def test_other_errors_keep_their_stack_trace(error):
    with pytest.raises(error), one_line_errors('train.py'):
        raise error('ours')
