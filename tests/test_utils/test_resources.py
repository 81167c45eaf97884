import subprocess

import pytest

from mmtlalign.utils import UserError, find_config
from mmtlalign.utils.resources import find_root, list_configs

from ..conftest import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'


def test_configs_are_in_the_package_or_beside_it(tmp_path):
    package = tmp_path / 'mmtlalign'
    package.mkdir()
    assert find_root(package) == tmp_path
    (package / '.mim').mkdir()
    assert find_root(package) == package / '.mim'


def test_every_config_is_found_by_its_name():
    """So no two have the same."""
    listed = subprocess.run(
        ['git', 'ls-files', '--', 'configs/**/*.py'], cwd=ROOT, check=True,
        capture_output=True, text=True).stdout.split()
    configs = [ROOT / path for path in listed if '_base_' not in path]
    assert len(configs) > 100
    assert set(configs) <= set(list_configs().values())
    assert all(find_config(path.stem) == str(path) for path in configs)


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(NAME).startswith(str(ROOT))
    (tmp_path / NAME).touch()
    assert find_config(NAME) == NAME
    assert find_config(tmp_path / NAME) == str(tmp_path / NAME)


@pytest.mark.parametrize('config', [NAME[:-1], f'{NAME}.py', f'a/{NAME}.py'])
def test_an_unknown_config_is_told_with_the_closest(config, tmp_path,
                                                    monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"config '{config}' does not exist: "
                       rf".* that come along \(closest: '{NAME}'\); these are "
                       f"the files under {ROOT / 'configs'}"):
        find_config(config)


def test_nothing_is_close_to_nonsense():
    with pytest.raises(UserError, match='that come along; these are'):
        find_config('0')
