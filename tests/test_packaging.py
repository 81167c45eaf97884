"""The wheel: what is in it, and that it finds its configs by itself."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import pytest

from .conftest import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'


def python(*command, cwd, **env):
    command = [sys.executable, *map(str, command)]
    subprocess.run(command, cwd=cwd, check=True, env={**os.environ, **env})


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Folder with ``source`` and ``wheel``, both unpacked."""
    pytest.importorskip('setuptools', minversion='80')
    folder = tmp_path_factory.mktemp('built')
    python('setup.py', '-q', 'egg_info', '--egg-base', folder, 'sdist', '-d', folder, cwd=ROOT)
    (archive,) = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder)
    archive.with_suffix('').with_suffix('').rename(folder / 'source')
    build('wheel', folder / 'source', folder)
    return folder


def build(kind, source, folder):
    """Build a wheel as pip does; leave it unpacked in ``folder/wheel``."""
    code = f"from setuptools.build_meta import build_{kind} as build; build('{folder}')"
    python('-c', code, cwd=source)
    (wheel,) = folder.glob('*.whl')
    shutil.unpack_archive(wheel, folder / 'wheel', 'zip')


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_names_are_found_in_the_wheel(built):
    code = f"""
from mmtlalign.resources import find_config
assert find_config('{NAME}').startswith('{built}/wheel/mmtlalign/.mim')
"""
    python('-c', code, cwd=built, PYTHONPATH=str(built / 'wheel'))


def test_the_wheel_brings_the_command(built):
    (dist,) = distributions(path=[str(built / 'wheel')])
    (command,) = dist.entry_points
    assert (command.group, command.name) == ('console_scripts', 'mmtlalign')
    assert command.value == 'mmtlalign.__main__:main'


@pytest.mark.slow
def test_an_editable_installation_makes_no_second_copy(built, tmp_path):
    """In which mim would find each config twice, and so refuse them all."""
    (built / 'source' / 'build').rename(tmp_path / 'of the wheel')
    build('editable', built / 'source', tmp_path)
    assert not any('.mim' in str(path) for path in (tmp_path / 'wheel').rglob('*'))
    assert len(list((built / 'source').rglob(f'{NAME}.py'))) == 1
