"""Which part of the package may import which: arrows run one way."""

import ast
from pathlib import Path

from .conftest import ROOT

PACKAGE = ROOT / 'mmtlalign'
# A part imports itself and those before it, and nothing else of ours.
LAYERS = (
    {'version'},
    {'', 'errors'},
    {'config_nodes', 'old_arguments', 'output_files', 'registry'},
    {'interception'},
    {'alignment'},
    {'merging'},
    {'data_configs', 'host_check', 'visualization'},
    {'resources'},
    {'datasets', 'models'},
    {'checkpoint'},
    {'evaluation'},
    {'apis', 'engine'},
    {'commands'},
    {'__main__'},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def modules_of(path: Path) -> set[str]:
    """Full names of what a file imports, at any depth."""
    here = list(path.relative_to(ROOT).with_suffix('').parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            base = '.'.join([*base, *filter(None, [node.module])])
            found.update(f'{base}.{alias.name}' for alias in node.names)
    return found


def part_of(name: str) -> str:
    """'alignment' of 'mmtlalign.alignment.trace.LabelTrace'; '' of the package itself."""
    part = f'{name}.'.split('.')[1]
    return part if part in LEVEL else ''


def test_arrows_run_one_way():
    files = sorted(PACKAGE.rglob('*.py'))
    assert len(files) > 100
    assert 'mmtlalign.errors.UserError' in modules_of(PACKAGE / 'commands/train.py')
    for path in files:
        own = part_of('.'.join(path.relative_to(ROOT).with_suffix('').parts))
        for name in modules_of(path):
            top = name.split('.')[0]
            assert top not in ('tools', 'tests', 'projects'), (path, name)
            if top == 'mmtlalign' and part_of(name) != own:
                assert LEVEL[part_of(name)] < LEVEL[own], (path, name)


def test_every_part_has_its_level():
    parts = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == '.py' or (path / '__init__.py').is_file()
    }
    assert parts - {'__init__'} == LEVEL.keys() - {''}
