import pytest

from mmtlalign.utils import UserError, one_line_errors


@pytest.mark.parametrize('rank, code', [
    (None, 'train.py: no such thing'), ('0', 'train.py: no such thing'),
    ('1', 1)])
def test_a_user_error_ends_the_program_in_one_line(monkeypatch, rank, code):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        raise UserError('no such thing')
    assert ended.value.code == code


def test_an_interrupted_program_says_so(capsys):
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == '\ntrain.py: interrupted\n'


def test_other_errors_keep_their_stack_trace():
    with pytest.raises(ValueError), one_line_errors('train.py'):
        raise ValueError
