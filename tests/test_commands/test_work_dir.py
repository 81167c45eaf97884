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


def resume(folder, load_from=None, trust=False):
    """Name and epoch of what is gone on from."""
    cfg = Config(dict(resume=True, load_from=load_from, work_dir=str(folder)))
    path, checkpoint = start.read_start(cfg, trust)
    return path and (path.rpartition('/')[2], checkpoint['meta']['epoch'])


def hold(path, pipe):
    lock_work_dir(path)
    pipe.send('locked')
    pipe.recv()  # for ever


def test_a_second_training_is_kept_out_until_the_first_dies(tmp_path, monkeypatch):
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
    monkeypatch.setenv('RANK', '1')
    lock_work_dir(str(tmp_path / 'new'))  # which the first process does
    assert not (tmp_path / 'new' / work_dir.LOCK).exists()


def test_checkpoints_of_another_run_are_not_lost(folder, tmp_path_factory):
    said = (
        r'holds 3 checkpoints of another run \(the newest: epoch_10.pth\); .*--resume, '
        '.*--work-dir, .*--overwrite'
    )
    with pytest.raises(UserError, match=said):
        check_no_earlier_run(str(folder))
    remove_earlier_run(str(folder), keep=str(folder / 'epoch_2.pth'))
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_2.pth']
    new = tmp_path_factory.mktemp('new')
    check_no_earlier_run(str(new))
    # what a run leaves beside checkpoints of names of the config's own, perhaps
    for name in ('best_accuracy_epoch_2.pth', 'last_checkpoint'):
        (new / name).touch()
        with pytest.raises(UserError, match=f'holds {name} of another run; go on .*--resume'):
            check_no_earlier_run(str(new))
        remove_earlier_run(str(new), keep=None)
        check_no_earlier_run(str(new))


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
    """One bit of a weight, over which torch reads."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 10.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert torch.load(path)['state_dict']['w'][0] != 10


INFINITE = dict(state={0: dict(exp_avg=torch.tensor([torch.inf]))}, param_groups=[])


def hub(**info):
    return dict(message_hub=dict(log_scalars={}, runtime_info=info, resumed_keys={}))


def meta(epoch=10, iter=30, **more):
    return dict(meta=dict(epoch=epoch, iter=iter, **more))


@pytest.mark.parametrize(
    'damage, said',
    [
        (cut, ''),
        (flip, 'cannot be read (BadZipFile: Bad CRC-32'),
        (lambda path: path.write_bytes(b''), ''),
        (dict(state_dict=dict(w=torch.full((3,), torch.nan))), ''),
        (dict(message_hub=None), 'message_hub is of type NoneType'),
        (dict(message_hub=dict(log_scalars={})), 'has no runtime_info'),
        (hub(keep_ckpt_ids=['/x']), "message_hub has ['/x'] for"),
        (meta(epoch=-1), 'epoch is -1'),
        (meta(epoch='3'), 'epoch is of type str, not int; '),
        (hub(max_iters=9) | meta(iter=10**30), 'iter is 1e+30, beyond its total of 9'),
        (meta(cfg="param_scheduler = dict(type='PolyLR')"), 'param_schedulers are missing: '),
        (dict(within_epoch=[]), 'within_epoch is of type list, not dict; '),
        (dict(within_epoch=dict(batches=1)), 'optimizer or within_epoch holds'),
        (dict(optimizer=dict(state={}, param_groups=[dict(lr='x')])), 'optimizer or within_epoch'),
        (dict(optimizer=[1]), 'is of type list, not dict'),
        (dict(optimizer=INFINITE), 'exp_avg holds values that are not fin'),
        (dict(ema_state_dict=INFINITE), 'exp_avg holds values that are no'),
    ],
)
def test_damaged_checkpoints_are_passed_over(folder, damage, said, capsys):
    path = folder / 'epoch_10.pth'
    save(path, 10, **damage) if isinstance(damage, dict) else damage(path)
    assert resume(folder) == ('epoch_9.pth', 9)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: going on from '{folder}/epoch_9.pth'")
    assert f"checkpoint '{path}' " in line and said in line
    assert ('it is damaged, resume an earlier one' in line) == ('cannot be resumed' in line)
    instead = (
        "epoch_10.pth'.*; the newest sound one beside it is "
        rf"'{folder}/epoch_9.pth': --resume {folder}/epoch_9.pth"
    )
    for trust in (False, True):
        with pytest.raises(UserError, match=instead):
            resume(folder, str(path), trust)
    for other in folder.glob('epoch_[29].pth'):
        cut(other)
    with pytest.raises(UserError, match='epoch_10.pth'):  # nothing sound is left
        resume(folder)


@pytest.mark.parametrize('named', [False, True])
def test_weights_alone_are_not_resumed(tmp_path, named):
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=dict(w=torch.ones(3)), meta=dict(epoch=3)), path)
    (tmp_path / 'last_checkpoint').write_text(path)
    with pytest.raises(UserError) as error:
        resume(tmp_path, path if named else None)
    assert str(error.value) == (
        f"checkpoint '{path}' cannot be resumed: it has no iter, message_hub, optimizer; to begin "
        f'a training with its weights, give --cfg-options load_from={path} instead of --resume'
    )


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
