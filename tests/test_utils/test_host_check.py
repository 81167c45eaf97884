import sys

import pytest
from mmengine.config import Config

from mmtlalign.utils import UserError, check_host


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_missing_operators_are_named_with_the_remedy(monkeypatch, host):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    with pytest.raises(UserError, match=(
            f'{host} configs need .*setup_env.sh --ops.*mmcv.ops')):
        check_host(Config(dict(default_scope=host)))


def test_a_missing_host_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', sys)
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    with pytest.raises(UserError, match='mmseg configs need mmseg'):
        check_host(Config(dict(default_scope='mmseg')))


@pytest.mark.parametrize('scope', ['mmpretrain', None])
def test_classification_needs_no_operators(monkeypatch, scope):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    check_host(Config(dict(default_scope=scope)))
