"""One training per work dir; damaged resume state is passed over."""

import multiprocessing

import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands import start, work_dir
from mmtlalign.commands.work_dir import (
    check_no_earlier_run,
    checkpoints_in,
    lock_work_dir,
    remove_earlier_run,
)
from mmtlalign.errors import UserError

FORK = multiprocessing.get_context('fork')


def save(path, epoch=1, **more):
    """What a training leaves, with one weight."""
    whole = dict(
        meta=dict(epoch=epoch, iter=3 * epoch),
        state_dict=dict(w=torch.full((100,), float(epoch))),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        optimizer=dict(state={}, param_groups=[]),
    )
    torch.save(whole | more, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """A work dir with three checkpoints; their times say nothing."""
    for epoch in (10, 2, 9):
        save(tmp_path / f'epoch_{epoch}.pth', epoch)
    (tmp_path / 'best_accuracy_epoch_11.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def resume(folder, load_from=None):
    """Name and epoch of what is gone on from."""
    cfg = Config(dict(resume=True, load_from=load_from, work_dir=str(folder)))
    path, checkpoint = start.read_start(cfg, False)
    return path and (path.rpartition('/')[2], checkpoint['meta']['epoch'])


def hold(path, pipe):
    lock_work_dir(path)
    pipe.send('locked')
    pipe.recv()  # for ever


def test_a_second_training_is_kept_out_until_the_first_dies(tmp_path):
    ours, theirs = FORK.Pipe()
    holder = FORK.Process(target=hold, args=(str(tmp_path), theirs))
    holder.start()
    try:
        assert ours.recv() == 'locked'
        said = (
            rf"work dir '{tmp_path}' is in use by process {holder.pid} on .*; wait until .* or "
            'choose another with --work-dir'
        )
        with pytest.raises(UserError, match=said):
            lock_work_dir(str(tmp_path))
    finally:
        holder.kill()
        holder.join()
    lock_work_dir(str(tmp_path))
    lock_work_dir(str(tmp_path))  # ours already


def test_only_the_first_process_locks(tmp_path, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    lock_work_dir(str(tmp_path / 'new'))
    assert not (tmp_path / 'new' / work_dir.LOCK).exists()


def test_checkpoints_of_another_run_are_not_lost(folder, tmp_path):
    said = (
        r'holds 3 checkpoints of another run \(the newest: epoch_10.pth\); .*--resume, '
        '.*--work-dir, .*--overwrite'
    )
    with pytest.raises(UserError, match=said):
        check_no_earlier_run(str(folder))
    remove_earlier_run(str(folder), keep=str(folder / 'epoch_2.pth'))
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_2.pth']
    check_no_earlier_run(str(tmp_path / 'new'))


@pytest.mark.parametrize('name', ['best_accuracy_epoch_2.pth', 'last_checkpoint'])
def test_a_run_is_also_known_by_what_else_it_leaves(tmp_path, name):
    (tmp_path / name).touch()  # beside checkpoints of names of the config's own, perhaps
    with pytest.raises(UserError, match=f'holds {name} of another run; go on .*--resume'):
        check_no_earlier_run(str(tmp_path))
    remove_earlier_run(str(tmp_path), keep=None)
    check_no_earlier_run(str(tmp_path))


def test_the_newest_is_known_by_its_name(tmp_path):
    expected = [
        'iter_70.pth',
        'interrupted_epoch_10_iter_35.pth',
        'epoch_10.pth',
        'interrupted_epoch_9_iter_31.pth',
        'epoch_9.pth',
    ]
    for name in (*sorted(expected), 'weights.pth', 'best_a_epoch_99.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'epoch_99.pth').symlink_to('gone')
    assert [path.name for path in checkpoints_in(tmp_path)] == expected


@pytest.mark.parametrize('place', ['its own', 'moved'])
def test_a_sound_last_checkpoint_is_taken_without_a_word(folder, tmp_path_factory, capsys, place):
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_9.pth\n')
    if place == 'moved':
        folder = folder.rename(tmp_path_factory.mktemp('moved') / 'here')
    assert resume(folder) == ('epoch_9.pth', 9)
    assert resume(folder, str(folder / 'epoch_2.pth')) == ('epoch_2.pth', 2)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    'content, why',
    [
        (None, 'is missing'),
        (b'\n\n', 'names no file'),
        (b'\xff\xfe\x00', 'is no text'),
        (b'a\0b', 'names no file'),
        (b'gone.pth', "names 'gone.pth', which does not exist"),
        (b'a\nb', 'names no file'),
    ],
)
def test_last_checkpoint_is_passed_over(folder, content, why, capsys):
    last = folder / 'last_checkpoint'
    last.unlink() if content is None else last.write_bytes(content)
    assert resume(folder) == ('epoch_10.pth', 10)
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith(f"warning: going on from '{folder}/epoch_10.pth'")
    assert why in said


def cut(path):
    path.write_bytes(path.read_bytes()[:-700])


def flip(path):
    """One bit of a weight."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 10.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)


INFINITE = dict(state={0: dict(exp_avg=torch.tensor([torch.inf]))}, param_groups=[])


@pytest.mark.parametrize(
    'damage, said',
    [
        (cut, ''),
        (flip, ''),
        (lambda path: path.write_bytes(b''), ''),
        (lambda path: save(path, 10, state_dict=dict(w=torch.full((3,), torch.nan))), ''),
        (lambda path: save(path, 10, message_hub=dict(log_scalars={})), 'has no runtime_info'),
        (lambda path: save(path, 10, meta=dict(epoch=-1, iter=30)), 'epoch is -1'),
        (lambda path: save(path, 10, optimizer=[1]), 'is of type list, not dict'),
        (lambda path: save(path, 10, optimizer=INFINITE), 'exp_avg holds values that are not fin'),
        (lambda path: save(path, 10, ema_state_dict=INFINITE), 'exp_avg holds values that are no'),
    ],
    ids='cut flipped empty diverged hub epoch list optimizer average'.split(),
)
def test_damaged_checkpoints_are_passed_over(folder, damage, said, capsys):
    damage(folder / 'epoch_10.pth')
    assert resume(folder) == ('epoch_9.pth', 9)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: going on from '{folder}/epoch_9.pth'")
    assert f"checkpoint '{folder}/epoch_10.pth' " in line and said in line
    instead = (
        "epoch_10.pth'.*; the newest sound one beside it is "
        rf"'{folder}/epoch_9.pth': --resume {folder}/epoch_9.pth"
    )
    with pytest.raises(UserError, match=instead):
        resume(folder, str(folder / 'epoch_10.pth'))


def test_torch_reads_over_a_flipped_bit_also_where_it_is_trusted(folder):
    """What the checksums are verified for."""
    path = folder / 'epoch_10.pth'
    flip(path)
    assert torch.load(path)['state_dict']['w'][0] != 10
    for trust in (False, True):
        with pytest.raises(UserError, match='cannot be read .*Bad CRC-32'):
            start.read_resumable(str(path), trust)


def test_nothing_sound_is_left(folder):
    for path in folder.glob('epoch_*.pth'):
        cut(path)
    with pytest.raises(UserError, match="epoch_10.pth' cannot be read"):
        resume(folder)


def test_a_new_work_dir_has_no_start(tmp_path):
    assert resume(tmp_path / 'new') is None
    assert start.read_start(Config(dict(work_dir=str(tmp_path))), False) == (None, None)
    (tmp_path / 'last_checkpoint').write_text('moved.pth')
    said = (
        "last_checkpoint' names 'moved.pth', which does not exist, and no other checkpoint lies "
        'there; give one with --resume'
    )
    with pytest.raises(UserError, match=said):
        resume(tmp_path)
