"""A second look at the same data costs nothing, at others it is done anew."""

import os

import pytest

from mmtlalign.commands.checks.cache import remembered
from mmtlalign.commands.checks.findings import Findings


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Depends on a file, and counts how often it is done."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'data/file'
    path.parent.mkdir()
    path.write_text('one')

    def look():
        look.times += 1
        files = [str(path), str(path.parent)]
        return Findings('train', 3, 'boxes', dict(a=1), False, ['x'], ['y'], files)

    look.times, look.path = 0, path
    return look


def test_the_same_question_on_the_same_files_is_not_looked_into_again(look):
    first = remembered(dict(a=1), look)
    assert remembered(dict(a=1), look) == first == look()
    assert look.times == 2  # one of them right above
    for question in (dict(a=2), dict(a=1, b=dict(c=(1, 2)))):
        remembered(question, look)
    assert look.times == 4


def damaged(content):
    """A change of what was kept."""

    def change(path):
        (stored,) = (path.parents[1] / 'cache/mmtlalign/checks').iterdir()
        stored.write_text(content)

    return change


@pytest.mark.parametrize(
    'change',
    [
        lambda path: path.write_text('three'),
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.unlink(),
        lambda path: path.with_name('more').touch(),
        lambda path: os.chdir(path.parent),  # relative paths are of other files there
        *map(damaged, ['{', '[]', '{"found": 3}']),
    ],
)
def test_what_has_changed_is_looked_at_again(look, change):
    remembered(dict(a=1), look)
    change(look.path)
    remembered(dict(a=1), look)
    assert look.times == 2


def test_no_cache_can_be_written(look, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    assert remembered(dict(a=1), look).images == 3
