"""The wheel: what is in it, and that it finds its configs by itself."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distributions

import pytest

from .conftest import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'


def run(*command, cwd, **env):
    subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, check=True, env={**os.environ, **env}
    )


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Folder with ``source`` and ``wheel``, both unpacked."""
    pytest.importorskip('setuptools', minversion='80')
    folder = tmp_path_factory.mktemp('built')
    run('setup.py', '-q', 'egg_info', '--egg-base', folder, 'sdist', '-d', folder, cwd=ROOT)
    (archive,) = folder.glob('*.tar.gz')
    (folder / 'source').mkdir()
    subprocess.run(
        ['tar', '-xzf', archive, '-C', folder / 'source', '--strip-components', '1'], check=True
    )
    options = '-q --disable-pip-version-check --no-index --no-deps --no-build-isolation -w'
    run('-m', 'pip', 'wheel', *options.split(), folder, folder / 'source', cwd=folder)
    zipfile.ZipFile(next(folder.glob('*.whl'))).extractall(folder / 'wheel')
    return folder


def in_checkout(*paths):
    """Files below these paths that are, or would be, committed."""
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '--', *paths],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {path for path in listed.stdout.splitlines() if (ROOT / path).is_file()}


def test_the_wheel_holds_package_configs_and_tools_and_nothing_else(built):
    folder = built / 'wheel'
    packed = {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and 'dist-info' not in str(path)
    }
    along = in_checkout('configs', 'tools', 'model-index.yml')
    assert packed == in_checkout('mmtlalign') | {f'mmtlalign/.mim/{path}' for path in along}
    assert {
        'model-index.yml',
        'tools/train.py',
        'tools/dist_train.sh',
        'configs/classification/tlalign/metafile.yml',
        f'configs/classification/tlalign/{NAME}.py',
    } <= along


def test_names_are_found_in_the_wheel(built):
    run(
        '-c',
        f"""
import mmtlalign
from mmtlalign.resources import find_config
assert find_config('{NAME}').startswith('{built}/wheel/mmtlalign/.mim')
mmtlalign.get_model('{NAME}')
""",
        cwd=built,
        PYTHONPATH=str(built / 'wheel'),
    )


def test_the_wheel_brings_the_command(built):
    (dist,) = distributions(path=[str(built / 'wheel')])
    (command,) = dist.entry_points
    assert (command.group, command.name) == ('console_scripts', 'mmtlalign')
    assert command.value == 'mmtlalign.__main__:main'


def test_an_editable_installation_makes_no_second_copy(built, tmp_path):
    """In which mim would find each config twice, and so refuse them all."""
    (built / 'source' / 'build').rename(tmp_path / 'of the wheel')
    run(
        '-c',
        f'from setuptools.build_meta import build_editable as build; build("{tmp_path}")',
        cwd=built / 'source',
    )
    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    assert not any('.mim' in name for name in names)
    assert len(list((built / 'source').rglob(f'{NAME}.py'))) == 1
