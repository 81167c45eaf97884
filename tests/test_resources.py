import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmtlalign.errors import UserError
from mmtlalign.resources import check_model, find_config, list_configs, open_config

from .conftest import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'


@pytest.mark.slow
def test_every_config_is_found_by_its_name():
    """So no two have the same."""
    configs = [path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(configs) > 100
    assert set(configs) <= set(list_configs().values())
    assert all(find_config(path.stem) == str(path) for path in configs)


def test_a_name_goes_before_a_file(tmp_path, monkeypatch, capsys):
    """A folder that one works in cannot put its code in place of a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f'{NAME}.py').touch()
    for name in (NAME, f'{NAME}.py', Path(f'{NAME}.py')):
        assert find_config(name).startswith(str(ROOT))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[0].endswith(f"for the file here, give './{NAME}.py'")
    for path in (f'./{NAME}.py', str(tmp_path / f'{NAME}.py')):
        assert find_config(path) == path


def test_what_is_no_config_and_what_is_a_part_of_one_are_named(tmp_path):
    for name in ('a.pth', 'a'):
        (tmp_path / name).touch()
        said = (
            rf"'.*{name}' is no config: its name ends in none of \.py, .*; the config is named fir"
        )
        with pytest.raises(UserError, match=said):
            find_config(tmp_path / name)
    (tmp_path / 'part.py').write_text('a = 1\n')
    with pytest.raises(UserError, match="config '.*/part.py' has no model: "):
        check_model(Config.fromfile(tmp_path / 'part.py'))


@pytest.mark.parametrize(
    'name, text, reason',
    [
        ('a.yml', 'a: [1', 'ParserError: while parsing a flow sequence'),
        ('a.yaml', 'a: b: c', 'ScannerError: mapping values are not allowed'),
        ('a.json', '{"a": 1,}', 'JSONDecodeError: '),
        ('a.json', '[1]', 'AttributeError: '),
        ('a.py', "_base_ = ['c.py', 'd.py']", '.*Duplicate key is not allowed'),
        ('a.py', "_base_ = 'gone.py'", "FileNotFoundError: .*/gone.py'"),
        ('a.py', b'a = "\xe9"', "UnicodeDecodeError: 'utf-8'"),
        ('a.py', b'a = 1\x00', ''),
        ('a.py', 'a = (', r'SyntaxError: .*, line 1\)'),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path, name, text, reason):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / 'c.py').write_text('a = 1')
    (tmp_path / 'd.py').write_text('a = 2')
    said = rf"config '.*/{name}' cannot be read \({reason}.*\); correct it, or"
    with pytest.raises(UserError, match=said):
        open_config(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize('base, loop', [('a.py', ''), ('b.py', '.*b.py -> ')])
def test_a_config_that_is_its_own_base_is_named(tmp_path, base, loop):
    (tmp_path / 'a.py').write_text(f"_base_ = '{base}'")
    (tmp_path / 'b.py').write_text("_base_ = 'a.py'")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # the end is near
    try:
        with pytest.raises(UserError, match=f'leads back to itself: .*a.py -> {loop}.*a.py'):
            open_config(tmp_path / 'a.py')
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    'config, closest',
    [(NAME[:-1], NAME), (f'{NAME[1:]}.py', NAME), (f'a/{NAME}.py', NAME), ('0', None)],
)
def test_an_unknown_config_is_told_with_the_closest(config, closest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hint = rf" \(closest: '{closest}'\)" if closest else ''
    folder = f'these are the files under {ROOT / "configs"}'
    said = f"config '{config}' does not exist: .* that come along{hint}; {folder}"
    with pytest.raises(UserError, match=said):
        find_config(config)
