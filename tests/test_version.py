import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmtlalign import version

from .conftest import ROOT

PIN = re.compile(r'([\w-]+)==([\w.]+)')


def pins():
    """Distribution: release, of every exact line of requirements/*.txt."""
    files = sorted((ROOT / 'requirements').glob('*.txt'))
    return dict(
        PIN.fullmatch(line).groups()
        for file in files
        for line in file.read_text().splitlines()
        if PIN.fullmatch(line)
    )


def test_table_equals_requirements():
    required = {distribution: low for distribution, low, _ in version.REQUIRED.values()}
    hosts = {
        name: pin for name, pin in pins().items() if name.startswith('onedl-') or name == 'torch'
    }
    assert required == hosts


@pytest.mark.parametrize('name', version.REQUIRED)
def test_bounds_are_in_order(name):
    _, low, high = version.REQUIRED[name]
    assert version.release(low) < version.release(high)


@pytest.mark.parametrize(
    'text, expected',
    [
        ('2.10.0', (2, 10, 0)),
        ('2.10.0+cu128', (2, 10, 0)),
        ('2.10.0a0+git1a2b3c4', (2, 10, 0)),
        ('0.10.12rc1', (0, 10, 12)),
        ('2.11', (2, 11)),
    ],
)
def test_release(text, expected):
    assert version.release(text) == expected


def test_check_versions_accepts_both_ends(monkeypatch):
    _, low, _ = version.REQUIRED['mmcv']
    for accepted in (low, '2.3.99'):
        fake_host(monkeypatch, 'mmcv', accepted)
        version.check_versions('mmcv')


@pytest.mark.parametrize('installed', ['2.3.5', '2.4.0', '1.7.2', '3'])
def test_check_versions_refuses_another_release(monkeypatch, installed):
    fake_host(monkeypatch, 'mmcv', installed)
    with pytest.raises(ImportError) as error:
        version.check_versions('mmcv')
    message = str(error.value)
    assert f'but {installed} is installed' in message
    assert 'mmcv >= 2.3.6, < 2.4' in message
    assert 'onedl-mmcv==2.3.6' in message
    assert 'tools/setup_env.sh' in message
    assert '\n' not in message


def test_check_versions_names_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    with pytest.raises(
        ImportError, match=('needs mmdet >= 3.5.1.*but no such package is installed')
    ):
        version.check_versions('mmdet')


@pytest.mark.parametrize(
    'found, expected', [(dict(a='1', b='2'), '1'), (dict(b='2'), '2'), ({}, None)]
)
def test_version_of_what_is_not_imported(monkeypatch, found, expected):
    def lookup(distribution):
        if distribution not in found:
            raise version.PackageNotFoundError
        return found[distribution]

    monkeypatch.setitem(version.REQUIRED, 'b', ('a', '1', '3'))
    monkeypatch.setattr(version, 'version', lookup)
    assert version.installed_version('b') == expected


def test_the_package_and_its_core_import_no_host():
    code = (
        'import sys, torch, mmtlalign\nfrom mmtlalign import LabelTrace\nfrom '
        'mmtlalign.alignment import supported_backbones\nassert '
        'supported_backbones()\nprint({m.partition(".")[0] for m in sys.modules})'
    )
    found = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in (*version.REQUIRED, 'timm', 'torchvision', 'psutil', 'rich', 'matplotlib'):
        if name != 'torch':
            assert f"'{name}'" not in found


def test_a_trace_imports_no_other_host_and_no_other_family():
    code = (
        'import sys\nfrom mmpretrain.models import VisionTransformer\nbefore = '
        'set(sys.modules)\nfrom mmtlalign import '
        'LabelTrace\nLabelTrace(VisionTransformer(arch="deit-tiny"))\nnew = set(sys.modules) - '
        'before\nprint({m.partition(".")[0] for m in new}, {m for m in new if ".families." in m})'
    )
    found = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "'mmdet'" not in found and "'mmseg'" not in found
    assert "'mmpretrain'" not in found
    assert "families.vit'" in found
    assert 'families.swin' not in found and 'families.timm' not in found


HOSTS = ('torch', 'mmengine', 'mmcv', 'mmpretrain')


@pytest.mark.parametrize('name', HOSTS)
def test_package_checks_before_it_imports(name):
    """In a fresh process of fake hosts, one of them of a wrong release."""
    releases = {host: version.REQUIRED[host][1] for host in HOSTS}
    releases[name] = '0.0.1'
    code = (
        f'import sys, types\nfor name, release in {releases}.items():\n    fake = '
        'sys.modules[name] = types.ModuleType(name)\n    fake.__version__ = release\ntry:\n    '
        'import mmtlalign\nexcept ImportError as error:\n    print(error)\nprint({m for m in '
        'sys.modules if m.startswith("mmtlalign.")})'
    )
    found = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert f'needs {name} >=' in found
    assert 'but 0.0.1 is installed' in found
    assert found.splitlines()[-1] == "{'mmtlalign.version'}"


def fake_host(monkeypatch, name, release):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=release))
