"""Files are whole or as they were, also on a full disk."""

import resource

import pytest
import torch
from mmengine.fileio import dump, put

from mmtlalign import output_files
from mmtlalign.errors import UserError
from mmtlalign.output_files import (
    check_space,
    let_hosts_write_whole_files,
    save_whole,
    write_whole,
    written_beside,
)


@pytest.fixture
def full():
    """A disk that takes 1000 bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / 'a.json'
    for text in ('first', 'second'):
        write_whole(path, text)
        assert path.read_text() == text
    save_whole(dict(a=torch.ones(3)), tmp_path / 'a.pth')
    assert torch.load(tmp_path / 'a.pth')['a'].sum() == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.json', 'a.pth']


@pytest.mark.parametrize(
    'write',
    [
        lambda path: write_whole(path, bytes(2000)),
        lambda path: save_whole(torch.ones(2000), path),
        lambda path: put(bytes(2000), str(path)),
        lambda path: dump(list(range(2000)), str(path), file_format='pkl'),
    ],
    ids=['write', 'save', 'put of the host', 'dump of the host'],
)
def test_what_was_there_stays_if_the_disk_is_full(tmp_path, full, write):
    let_hosts_write_whole_files()
    path = tmp_path / 'a.pth'
    path.write_text('sound')
    said = rf"'{path}' cannot be written \(File too large\); free some space or write elsewhere"
    with pytest.raises(UserError, match=said):
        write(path)
    assert path.read_text() == 'sound'
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']


def test_nothing_is_left_of_what_fails_for_another_reason(tmp_path):
    with pytest.raises(ZeroDivisionError), written_beside(tmp_path / 'a.png') as beside:
        assert beside.suffix == '.png' and beside.parent == tmp_path
        beside.write_text('half')
        1 / 0
    assert not [*tmp_path.iterdir()]


def test_room_is_looked_at_before(tmp_path, monkeypatch):
    check_space(tmp_path, 1, 'ones', '--out')
    usage = type('Usage', (), dict(free=3 * 2**20))
    monkeypatch.setattr(output_files.shutil, 'disk_usage', lambda path: usage)
    said = 'has room for 3 MiB, and two checkpoints need 5; free some, or .* with --work-dir'
    with pytest.raises(UserError, match=said):
        check_space(tmp_path, 5 * 2**20, 'two checkpoints', '--work-dir')
