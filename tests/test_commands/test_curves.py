import json
import struct

import pytest

from mmtlalign.commands import curves
from mmtlalign.errors import UserError


def train_line(step, loss):
    figures = dict(lam=0.5, aligned_share=0.4, token_fluctuation=0.1)
    return dict(loss=loss, epoch=1, step=step, **figures)


def val_line(step, accuracy):
    return {'accuracy/top1': accuracy, 'step': step}


def write_log(path, *records):
    path.write_text('\n'.join(map(json.dumps, records)))
    return str(path)


def test_a_resumed_run_is_one_run(tmp_path):
    """What was trained again after an interruption replaces the first try."""
    logs = [
        write_log(tmp_path / 'a.json', train_line(20, 2.0), val_line(1, 50.0), train_line(40, 1.5)),
        write_log(tmp_path / 'b.json', train_line(40, 1.4), train_line(60, 1.0), val_line(2, 60.0)),
    ]
    train, val = curves.read_log(logs)
    assert curves.series(train, 'loss') == [[20, 40, 60], [2, 1.4, 1]]
    assert curves.series(val, 'accuracy/top1') == [[1, 2], [50, 60]]
    assert curves.series(train, 'absent') == [[], []]


def test_half_a_record_of_a_killed_training_is_left_out(tmp_path):
    log = write_log(tmp_path / 'a.json', train_line(20, 2.0), train_line(40, 1.5))
    whole = (tmp_path / 'a.json').read_text()
    (tmp_path / 'a.json').write_text(whole[:-9])
    assert list(curves.read_log([log])[0]) == [20]


def test_panels(tmp_path, monkeypatch):
    """One panel for each kind of figure that the log has, rightly labelled."""
    drawn = []
    monkeypatch.setattr(curves, 'draw_panel', lambda axis, *panel: drawn.append(panel))
    curves.draw({20: train_line(20, 2.0)}, {1: val_line(1, 51.25)}, tmp_path / 'a.png')
    assert [(panel[0], panel[-1]) for panel in drawn] == [
        ('Training loss', 'iteration'),
        ('Accuracy on held-out images (last: 51.2 %)', 'epoch'),
        ('Share of the own image', 'iteration'),
        ('Token fluctuation', 'iteration'),
    ]
    drawn.clear()
    curves.draw({20: dict(loss=1.0, step=20)}, {}, tmp_path / 'b.png')
    assert [panel[0] for panel in drawn] == ['Training loss']


@pytest.mark.slow
def test_writes_a_picture(tmp_path, capsys):
    records = train_line(20, 2.0), train_line(40, 1.0), val_line(1, 50.0)
    out = tmp_path / 'curves.png'
    curves.main([write_log(tmp_path / 'scalars.json', *records), '--out', str(out)])
    content = out.read_bytes()
    assert content.startswith(b'\x89PNG')
    width, height = struct.unpack('>II', content[16:24])
    assert width > height > 500
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    'text, message',
    [
        (None, "log 'LOG' does not exist"),
        ('', "no training step is logged in 'LOG' yet"),
        ('{"accuracy/top1": 50, "step": 1}', 'no training step is logged'),
        ('{"loss": 1, "step": 1}\nnonsense', "'LOG', line 2, is no record"),
        ('[1]', "'LOG', line 1, is no record"),
        ('[' * 100_000, "'LOG', line 1, is no record"),
        ('{"loss": "a", "step": 1}', "'LOG', line 1, is no record"),
        ('{"loss": 1, "step": "\udce9"}', "'LOG', line 1, is no record"),
    ],
)
def test_bad_logs(tmp_path, text, message):
    log = tmp_path / 'scalars.json'
    if text is not None:
        log.write_text(text, errors='surrogateescape')
    with pytest.raises(UserError) as error:
        curves.read_log([str(log)])
    assert message.replace('LOG', str(log)) in str(error.value)
