import signal

import pytest
from mmcv.transforms import LoadImageFromFile
from torch.utils.data import DataLoader

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


def test_other_errors_keep_their_stack_trace():
    for error in (ValueError, AssertionError, OSError):
        with pytest.raises(error), one_line_errors('train.py'):
            raise error('ours')


def test_a_failure_of_loading_without_a_message_keeps_its_trace(tmp_path):
    source = tmp_path / 'transforms/loading.py'
    source.parent.mkdir()
    source.write_text('assert False')
    with pytest.raises(AssertionError), one_line_errors('train.py'):
        exec(compile(source.read_text(), str(source), 'exec'))


class Images:
    """One image, loaded as the hosts' data sets do."""

    def __init__(self, path):
        self.path = str(path)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return LoadImageFromFile()(dict(img_path=self.path))['img']


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize(
    'content, why',
    [
        (b'no image', 'failed to load image: {}: get the file again'),
        (None, "No such file or directory: '{}': get the file again"),
    ],
)
def test_an_image_that_cannot_be_loaded_is_named(tmp_path, num_workers, content, why):
    path = tmp_path / 'cell.png'
    if content:
        path.write_bytes(content)
    loader = DataLoader(Images(path), num_workers=num_workers)
    with pytest.raises(SystemExit) as ended, one_line_errors('train.py'):
        next(iter(loader))
    assert '--resume' not in ended.value.code
    assert ended.value.code.startswith('train.py: ')
    assert why.format(path) in ended.value.code
    assert '\n' not in ended.value.code
