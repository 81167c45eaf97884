"""The notebooks of docs/ run from top to bottom, and are kept without outputs."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))


def texts_of(notebook: Path, folder: Path, edits: dict[str, list[str]] | None = None) -> str:
    """What its cells print, run in a folder; with options added to those of
    the training whose config a name is in."""
    book = nbformat.read(notebook, as_version=4)
    for name, options in (edits or {}).items():
        (cell,) = (c for c in book.cells if name in c.source and "'train'," in c.source)
        cell.source = cell.source.replace("'--cfg-options',", f"'--cfg-options', *{options},")
    nbclient.NotebookClient(
        book, timeout=None, kernel_name='python3', resources={'metadata': {'path': str(folder)}}
    ).execute()
    outputs = [output for cell in book.cells for output in cell.get('outputs', [])]
    return ''.join(output.get('text', '') for output in outputs)


@pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_in_git(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == 'code']
    assert code and all(not c.outputs and c.execution_count is None for c in code)


@pytest.mark.slow
def test_own_loop_learns_digits(tmp_path):
    pytest.importorskip('timm')
    said = texts_of(ROOT / 'docs/notebooks/own_loop.ipynb', tmp_path)
    accuracy = float(said[: said.index(' % of 360')].split()[-1])
    assert accuracy > 85
    assert 'area' in said and 'aligned label' in said


@pytest.mark.slow
def test_pretraining_ends_in_a_detector(tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmcv._ext')
    monkeypatch.setenv('EPOCHS', '2')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    said = texts_of(
        ROOT / 'docs/notebooks/pretraining_to_detector.ipynb',
        tmp_path,
        {
            'tlalign_swin-mini_1xb32': ['train_dataloader.dataset.indices=320'],
            'mask-rcnn': [
                'train_dataloader.dataset.indices=16',
                'val_dataloader.dataset.indices=8',
            ],
        },
    )
    assert 0 <= float(said.rpartition('held-out scenes: ')[2]) <= 1
