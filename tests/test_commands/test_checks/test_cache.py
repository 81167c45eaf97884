"""A second look at the same data costs nothing, at others it is done anew."""

import os

import pytest

from mmtlalign.commands.checks.cache import remembered
from mmtlalign.commands.checks.findings import Findings
from mmtlalign.errors import UserError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file to depend on, and a look that counts how often it is done."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path = tmp_path / 'data/file'
    path.parent.mkdir()
    path.write_text('one')

    def look():
        look.times += 1
        return Findings(
            'train', 3, 'boxes', dict(a=1), False, ['x'], ['y'], [str(path), str(path.parent)]
        )

    look.times = 0
    return path, look


def test_the_same_files_are_not_looked_at_again(data):
    _, look = data
    first = remembered(dict(a=1), look)
    assert remembered(dict(a=1), look) == first == look()
    assert look.times == 2  # one of them right above


@pytest.mark.parametrize(
    'change',
    [
        lambda path: path.write_text('three'),
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.unlink(),
        lambda path: path.with_name('more').touch(),
    ],
    ids=['size', 'time', 'gone', 'folder'],
)
def test_changed_files_are(data, change):
    path, look = data
    remembered(dict(a=1), look)
    change(path)
    try:
        remembered(dict(a=1), look)
    except FileNotFoundError:
        pass
    assert look.times == 2


def test_the_same_relative_paths_elsewhere_are_other_files(data, tmp_path, monkeypatch):
    _, look = data
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        remembered(dict(data_root='data'), look)
    assert look.times == 2


def test_another_question_is_another_answer(data):
    _, look = data
    for question in (dict(a=1), dict(a=2), dict(a=1, b=dict(c=(1, 2)))):
        remembered(question, look)
    assert look.times == 3


@pytest.mark.parametrize('content', ['{', '[]', '{"found": 3}'])
def test_a_damaged_cache_is_none(data, tmp_path, content):
    _, look = data
    remembered(dict(a=1), look)
    (stored,) = (tmp_path / 'cache/mmtlalign/checks').iterdir()
    stored.write_text(content)
    remembered(dict(a=1), look)
    assert look.times == 2


def test_no_cache_can_be_written(data, tmp_path):
    _, look = data
    (tmp_path / 'cache').write_text('a file')
    assert remembered(dict(a=1), look).images == 3


def test_errors_are_not_kept(data):
    def fail():
        raise UserError('bad data')

    for _ in range(2):
        with pytest.raises(UserError):
            remembered(dict(a=1), fail)
