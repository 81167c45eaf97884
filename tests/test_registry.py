"""Configs of any host find our types by name, in a fresh process."""

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmpretrain.registry import MODELS as HOST_MODELS

from tests.test_models import test_tlalign

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


PART = """
import torch
from mmtlalign.models import BatchMix, LabelTarget
from mmtlalign.registry import BATCH_AUGMENTS, MODELS

@BATCH_AUGMENTS.register_module()
class LeftHalf(BatchMix):
    def draw(self, inputs):
        share = torch.ones(self.grid(inputs))
        share[:, : share.size(1) // 2] = 0
        return self.record(inputs, share)

@MODELS.register_module()
class HalfTarget(LabelTarget):
    def share(self, record, trace, scores, data_samples):
        return torch.full_like(record.lam, 0.5)
"""


def test_a_new_part_is_one_new_file(tmp_path, monkeypatch):
    """In a package like those under mmtlalign/models."""
    package = tmp_path / 'masks_of_a_test'
    package.mkdir()
    (package / '__init__.py').write_text(
        'from mmtlalign.registry import import_parts\n'
        'globals().update(parts := import_parts(__name__, __path__))\n__all__ = list(parts)\n'
    )
    (package / 'left_half.py').write_text(PART)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module('masks_of_a_test')
    assert set(module.__all__) == {'LeftHalf', 'HalfTarget'}
    cfg = test_tlalign.config(
        target=dict(type='mmtlalign.HalfTarget'),
        train_cfg=dict(augments=[dict(type='mmtlalign.LeftHalf', patch_size=4)]),
    )
    model = HOST_MODELS.build(cfg)
    batch = model.data_preprocessor(test_tlalign.data(), training=True)
    losses = model.loss(**batch)
    assert losses['lam'] == losses['aligned_share'] == 0.5
    losses['loss'].backward()


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
