"""Nothing in a file is executed, whatever reads it."""

import json
from importlib import import_module

import pytest
import torch

from mmtlalign.__main__ import COMMANDS

from ..conftest import needs_operators
from ..forked import run_forked
from ..tiny import ROOT, environment

FOLDER = ROOT / 'projects/reliability'


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Are found by each other, as when one is run."""
    monkeypatch.syspath_prepend(FOLDER)


def test_all_that_reads_files_is_tried():
    """A new command or script must be listed, and what is gone is not."""
    entry_points = import_module('entry_points')
    assert entry_points.COMMANDS.keys() == COMMANDS.keys()
    scripts = {
        path.relative_to(ROOT).as_posix()
        for folder in ('tools', 'demo')
        for path in (ROOT / folder).rglob('*.py')
        if 'from mmtlalign.__main__ import run\n' not in path.read_text()
    }
    assert scripts == entry_points.SCRIPTS.keys() | entry_points.READ_NOTHING.keys()


@pytest.mark.slow
def test_no_hostile_file_is_executed(tmp_path):
    needs_operators()
    command = ['--quick', '--parts', 'executions', '--out', str(tmp_path)]
    done = run_forked(FOLDER / 'run.py', command, ROOT, environment(ROOT))
    assert done.returncode == 0, done.stderr
    results = list(map(json.loads, (tmp_path / 'executions.jsonl').read_text().splitlines()))
    assert len(results) == len(import_module('entry_points').all_calls())
    assert not [result['name'] for result in results if result['executed']]
    assert any(result['status'] for result in results)


def test_the_hostile_files_can_execute(tmp_path, monkeypatch):
    """So the test above can fail."""
    monkeypatch.chdir(tmp_path)
    corpus = import_module('corpus')
    torch.save(dict(meta=dict(cfg=''), state_dict={}), 'trained.pth')
    corpus.write_checkpoints(tmp_path, tmp_path / 'trained.pth')
    for name in ('added_system.pth', 'added_exec_old.pth', 'added_module.pth', 'hub.pth'):
        torch.load(name, weights_only=False)
        trace = tmp_path / corpus.TRACE
        assert trace.exists(), name
        trace.unlink()


def test_calls_of_stock_tools_mean_the_same():
    stock = import_module('stock')
    tool, words = stock.as_stock('train', 'tiny.py --extend 4 --resume a.pth --no-report'.split())
    assert words == 'tiny.py --cfg-options train_cfg.max_epochs=4 --resume a.pth'.split()
    assert stock.as_stock('publish', 'a.pth out --name a'.split())[1] == ['a.pth', 'out']
    for call in ('train tokens.py', 'train tiny.py --extend 0', 'publish a out', 'fidelity a b'):
        what, *arguments = call.split()
        with pytest.raises(stock.NotApplicable):
            stock.as_stock(what, arguments)
    assert all((stock.TOOLS / path).is_file() for path, *_ in stock.CALLS.values())
    assert 'mmtlalign' not in stock.CONFIG


def test_the_page_counts_what_applies(tmp_path):
    ours = [dict(name='a', clear=True, status=1), dict(name='b', clear=False, status=0)]
    stock = [dict(name='a', clear=False, status=1), dict(name='b', applies=False)]
    (tmp_path / 'stock').mkdir()
    for folder, lines in ((tmp_path, ours), (tmp_path / 'stock', stock)):
        (folder / 'inputs.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    import_module('page').write_page(tmp_path, tmp_path / 'page.md')
    text = (tmp_path / 'page.md').read_text()
    assert '| wrong inputs, one clear line | 1 of 2 | 0 of 1 | 1 |' in text
    assert '| wrong inputs, refused | 1 of 2 | 1 of 1 | 1 |' in text
    assert 'Not so:\n\n- `b`\n' in text
