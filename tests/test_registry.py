"""Configs of any host find our types by name, in a fresh process."""
import subprocess
import sys

import pytest

FIND = """
from mmengine.registry import {node}
from mmengine.registry import DefaultScope
DefaultScope.get_instance('test', scope_name='{scope}')
assert {node}.get('mmtlalign.{name}') is not None, '{name}'
"""


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_types_resolve_without_custom_imports(scope):
    code = ''.join(
        FIND.format(node=node, scope=scope, name=name) for node, name in (
            ('MODELS', 'TLAlignClassifier'),
            ('MODELS', 'TLAlignLinearClsHead'),
            ('HOOKS', 'ResumeRandomState'), ('DATASETS', 'Digits')))
    subprocess.run([sys.executable, '-c', code], check=True)


def test_mixing_methods_resolve_from_the_host():
    code = ('from mmpretrain.registry import BATCH_AUGMENTS as B; '
            'assert B.get("mmtlalign.TokenCutMix") is not None')
    subprocess.run([sys.executable, '-c', code], check=True)
