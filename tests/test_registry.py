"""Configs of any host find our types by name, in a fresh process."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# What hosts share is imported once; each then looks in a fork of its own.
FIND = """
import os, sys
from mmengine import registry
hosts = [__import__(name) for name in sys.argv[1:]]
assert 'mmtlalign' not in sys.modules
names = dict(
    MODELS=['TLAlignClassifier', 'TLAlignLinearClsHead'],
    HOOKS=['ResumeRandomState'],
    DATASETS=['Digits'],
)
for host in hosts:
    if os.fork():
        assert os.wait()[1] == 0, host.__name__
        continue
    registry.DefaultScope.get_instance('test', scope_name=host.__name__)
    if host.__name__ == 'mmpretrain':
        assert host.registry.BATCH_AUGMENTS.get('mmtlalign.TokenCutMix') is not None
    if host.__name__ == 'mmseg':
        names['MODELS'] += ['MixSegDataPreProcessor', 'TLAlignEncoderDecoder']
    for node, found in names.items():
        for name in found:
            assert getattr(registry, node).get(f'mmtlalign.{name}') is not None, name
    break
"""


@pytest.mark.slow
def test_types_resolve_without_custom_imports():
    others = ['mmdet', 'mmseg'] if find_spec('mmcv._ext') else []
    subprocess.run([sys.executable, '-c', FIND, 'mmpretrain', *others], check=True)


def test_every_file_of_models_is_imported_and_exported():
    import mmtlalign.models as models

    folder = Path(models.__file__).parent
    files = [path for path in folder.glob('*/*.py') if path.stem != '__init__']
    assert len(files) > 20
    if not models.segmentation.parts:  # without mmseg or mmcv's operators
        files = [path for path in files if path.parent.name != 'segmentation']
    for path in files:
        assert f'mmtlalign.models.{path.parent.name}.{path.stem}' in sys.modules
    names = 'CutMix MixRecord TLAlignClassifier AlignedTarget TLAlignLinearClsHead LVViT LaCViT'
    for name in names.split():
        assert hasattr(models, name)
