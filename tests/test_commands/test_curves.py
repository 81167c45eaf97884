import json

import pytest
from PIL import Image

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
    """What was trained again after an interruption replaces the first try; of a training that was
    killed as it wrote, half a record is left out."""
    first = train_line(20, 2.0), val_line(1, 50.0), train_line(40, 1.5), train_line(50, 1.2)
    first = write_log(tmp_path / 'a.json', *first)
    (tmp_path / 'a.json').write_text((tmp_path / 'a.json').read_text()[:-9])
    assert [*curves.read_log([first])[0]] == [20, 40]
    second = train_line(40, 1.4), train_line(60, 1.0), val_line(2, 60.0)
    train, val = curves.read_log([first, write_log(tmp_path / 'b.json', *second)])
    assert curves.series(train, 'loss') == [[20, 40, 60], [2, 1.4, 1]]
    assert curves.series(val, 'accuracy/top1') == [[1, 2], [50, 60]]
    assert curves.series(train, 'absent') == [[], []]


@pytest.mark.slow
def test_a_picture_has_a_panel_for_each_kind_of_figure(tmp_path, monkeypatch, capsys):
    drawn, draw_panel = [], curves.draw_panel
    monkeypatch.setattr(
        curves, 'draw_panel', lambda axis, *panel: drawn.append(panel) or draw_panel(axis, *panel)
    )
    records = train_line(20, 2.0), train_line(40, 1.0), val_line(1, 51.25)
    out = tmp_path / 'curves.png'
    curves.main([write_log(tmp_path / 'scalars.json', *records), '--out', str(out)])
    assert str(out) in capsys.readouterr().out
    width, height = Image.open(out).size
    assert width > height > 500
    assert [(panel[0], panel[-1]) for panel in drawn] == [
        ('Training loss', 'iteration'),
        ('Accuracy on held-out images (last: 51.2 %)', 'epoch'),
        ('Share of the own image', 'iteration'),
        ('Token fluctuation', 'iteration'),
    ]
    drawn.clear()
    curves.draw({20: dict(loss=1.0, step=20)}, {}, tmp_path / 'b.png')
    assert [panel[0] for panel in drawn] == ['Training loss']


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
