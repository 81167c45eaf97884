import sys

import pytest
from mmengine.config import Config

from mmtlalign.errors import UserError
from mmtlalign.host_check import check_host, check_sync_bn
from mmtlalign.resources import open_config


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_missing_operators_are_named_with_the_remedy(monkeypatch, host):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    with pytest.raises(UserError, match=(f'{host} configs need .*setup_env.sh --ops.*mmcv.ops')):
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


def test_a_base_in_a_host_that_is_missing(monkeypatch, tmp_path):
    config = tmp_path / 'a.py'
    config.write_text("_base_ = ['mmdet::_base_/default_runtime.py']")
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda package: False)
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    with pytest.raises(UserError, match='mmdet configs need .*--ops'):
        open_config(config)
    config.write_text('a = __import__("gone")')
    with pytest.raises(ModuleNotFoundError, match="'gone'"):
        open_config(config)


@pytest.mark.parametrize(
    'model, where',
    [
        (
            dict(decode_head=dict(norm_cfg=dict(type='SyncBN'))),
            'model.decode_head.norm_cfg.type=SyncBN',
        ),
        (
            dict(heads=[dict(type='A'), dict(norm_cfg=dict(type='mmcv.SyncBN'))]),
            'model.heads.1.norm_cfg.type=mmcv.SyncBN',
        ),
    ],
)
def test_synchronized_batch_norm_needs_a_gpu(monkeypatch, model, where):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(
        UserError, match=(f'^{where} needs a GPU.* --cfg-options {where.split("=")[0]}=BN')
    ):
        check_sync_bn(Config(dict(model=model)))
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    check_sync_bn(Config(dict(model=model)))


def test_nor_may_batch_norms_be_turned_into_such(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    cfg = Config(dict(model=dict(norm_cfg=dict(type='BN')), sync_bn='torch'))
    with pytest.raises(UserError, match='sync_bn=torch needs a GPU'):
        check_sync_bn(cfg)
    cfg.sync_bn = None
    check_sync_bn(cfg)
