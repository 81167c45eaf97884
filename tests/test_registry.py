"""Configs of any host find our types by name, in a fresh process."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from mmpretrain.registry import MODELS as HOST_MODELS

from tests.conftest import needs_operators
from tests.test_models import test_tlalign

FIND = """
from mmengine.registry import {node}
from mmengine.registry import DefaultScope
DefaultScope.get_instance('test', scope_name='{scope}')
assert {node}.get('mmtlalign.{name}') is not None, '{name}'
"""


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_types_resolve_without_custom_imports(scope):
    code = ''.join(
        FIND.format(node=node, scope=scope, name=name)
        for node, name in (
            ('MODELS', 'TLAlignClassifier'),
            ('MODELS', 'TLAlignLinearClsHead'),
            ('HOOKS', 'ResumeRandomState'),
            ('DATASETS', 'Digits'),
        )
    )
    if scope == 'mmseg':
        needs_operators()
        code += ''.join(
            FIND.format(node='MODELS', scope=scope, name=name)
            for name in ('MixSegDataPreProcessor', 'TLAlignEncoderDecoder')
        )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_mixing_methods_resolve_from_the_host():
    code = (
        'from mmpretrain.registry import BATCH_AUGMENTS as B; '
        'assert B.get("mmtlalign.TokenCutMix") is not None'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_new_part_is_one_new_file(tmp_path, monkeypatch):
    """In a package like those under mmtlalign/models."""
    package = tmp_path / 'masks_of_a_test'
    package.mkdir()
    (package / '__init__.py').write_text(
        'from mmtlalign.registry import import_parts\n\nglobals().update(parts := '
        'import_parts(__name__, __path__))\n__all__ = list(parts)\n'
    )
    (package / 'none_at_all.py').write_text(
        'import torch\nfrom mmtlalign.models import BatchMix, LabelTarget\nfrom '
        'mmtlalign.registry import BATCH_AUGMENTS, '
        'MODELS\n\n\n@BATCH_AUGMENTS.register_module()\nclass LeftHalf(BatchMix):\n\n    def '
        'draw(self, inputs):\n        share = torch.ones(self.grid(inputs))\n        share[:, '
        ':share.size(1) // 2] = 0\n        return self.record(inputs, '
        'share)\n\n\n@MODELS.register_module()\nclass HalfTarget(LabelTarget):\n\n    def '
        'share(self, record, trace, scores, data_samples):\n        return '
        'torch.full_like(record.lam, .5)\n'
    )
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
        assert f'mmtlalign.models.{path.parent.name}.{path.stem}' in (sys.modules)
    for name in (
        'CutMix MixRecord TLAlignClassifier AlignedTarget TLAlignLinearClsHead LVViT LaCViT '
        'swap_tokens TLAlignDataPreprocessor SupervisedContrastiveLoss SimpleFeaturePyramid'
    ).split():
        assert hasattr(models, name)
