import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmtlalign import version

from .conftest import ROOT


def test_table_equals_requirements():
    """In every exact line of a host."""
    files = (ROOT / 'requirements').glob('*.txt')
    lines = '\n'.join(file.read_text() for file in files)
    pins = re.findall(r'^(onedl-[\w-]+|torch)==([\w.]+)$', lines, re.MULTILINE)
    assert dict(pins) == {name: low for name, low, _ in version.REQUIRED.values()}
    for _, low, high in version.REQUIRED.values():
        assert version.release(low) < version.release(high)


def fake_host(monkeypatch, name, release):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=release))


def test_check_versions(monkeypatch):
    # a vendor's own build of a release counts as that release
    for accepted in ('2.3.6', '2.3.99', '2.3.6a0+git1a2b3c4', '2.3.6rc1', '2.3.10+cu128'):
        fake_host(monkeypatch, 'mmcv', accepted)
        version.check_versions('mmcv')
    for refused in ('2.3.5', '2.4', '2.4.0+cu128', '3'):
        fake_host(monkeypatch, 'mmcv', refused)
        with pytest.raises(ImportError) as error:
            version.check_versions('mmcv')
        message = str(error.value)
        for part in (
            'mmcv >= 2.3.6, < 2.4',
            f'but {refused} is installed',
            'onedl-mmcv==2.3.6',
            'tools/setup_env.sh',
        ):
            assert part in message
        assert '\n' not in message
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    with pytest.raises(ImportError, match='needs mmdet >= 3.5.1.*no such package is installed'):
        version.check_versions('mmdet')


@pytest.mark.parametrize(
    'name, distribution, found',
    [
        ('none', 'pytest', pytest.__version__),
        ('pytest', 'none', pytest.__version__),
        ('none', 'none', None),
    ],
)
def test_version_of_what_is_not_imported(monkeypatch, name, distribution, found):
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(version.REQUIRED, name, (distribution, '1', '3'))
    assert version.installed_version(name) == found


def in_a_fresh_process(code):
    """The lines that it prints."""
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_no_host_is_imported_before_it_is_traced_nor_another_one_then():
    first, packages, families = in_a_fresh_process("""
import os, sys, torch, mmtlalign
from mmtlalign import LabelTrace
if os.fork() == 0:  # what imports all families
    from mmtlalign.alignment import supported_backbones
    assert supported_backbones()
    print({m.partition('.')[0] for m in sys.modules})
    sys.exit()
assert os.wait()[1] == 0
from mmpretrain.models import VisionTransformer
before = set(sys.modules)
LabelTrace(VisionTransformer(arch='deit-tiny'))
new = set(sys.modules) - before
print({m.partition('.')[0] for m in new})
print({m for m in new if '.families.' in m})
""")
    for name in (*version.REQUIRED, 'timm', 'torchvision', 'psutil', 'rich', 'matplotlib'):
        assert name == 'torch' or f"'{name}'" not in first
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        assert f"'{name}'" not in packages
    assert "families.vit'" in families
    assert 'families.swin' not in families and 'families.timm' not in families


HOSTS = ('torch', 'mmengine', 'mmcv', 'mmpretrain')


@pytest.mark.parametrize('name', HOSTS)
def test_package_checks_before_it_imports(name):
    """In a fresh process of fake hosts, one of them of a wrong release."""
    releases = {host: version.REQUIRED[host][1] for host in HOSTS}
    releases[name] = '0.0.1'
    lines = in_a_fresh_process(f"""
import sys, types
for name, release in {releases}.items():
    fake = sys.modules[name] = types.ModuleType(name)
    fake.__version__ = release
try:
    import mmtlalign
except ImportError as error:
    print(error)
print({{m for m in sys.modules if m.startswith('mmtlalign.')}})
""")
    assert f'needs {name} >=' in lines[0] and 'but 0.0.1 is installed' in lines[0]
    assert lines[-1] == "{'mmtlalign.version'}"
