import sys

import pytest
from mmengine.config import Config

from mmtlalign.errors import UserError
from mmtlalign.host_check import check_host, check_sync_bn
from mmtlalign.resources import open_config

from .conftest import needs_operators


@pytest.mark.parametrize(
    'host, missing, message',
    [
        ('mmdet', 'mmcv.ops', 'mmdet configs need .*setup_env.sh --ops.*mmcv.ops'),
        ('mmseg', 'mmcv.ops', 'mmseg configs need .*setup_env.sh --ops.*mmcv.ops'),
        ('mmseg', 'mmseg', 'mmseg configs need mmseg'),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(monkeypatch, host, missing, message):
    if missing == 'mmcv.ops':
        needs_operators()
    monkeypatch.setitem(sys.modules, 'mmcv.ops', sys)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=message):
        check_host(Config(dict(default_scope=host)))
    for scope in ('mmpretrain', None):  # which need neither
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
    'cfg, where, instead',
    [
        (
            dict(model=dict(heads=[dict(type='A'), dict(norm_cfg=dict(type='mmcv.SyncBN'))])),
            'model.heads.1.norm_cfg.type=mmcv.SyncBN',
            'BN',
        ),
        (dict(model=dict(norm_cfg=dict(type='BN')), sync_bn='torch'), 'sync_bn=torch', 'None'),
    ],
)
def test_synchronized_batch_norm_needs_a_gpu(monkeypatch, cfg, where, instead):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    remedy = f'--cfg-options {where.split("=")[0]}={instead}'
    with pytest.raises(UserError, match=f'^{where} needs a GPU.* {remedy}'):
        check_sync_bn(Config(cfg))
    check_sync_bn(Config(dict(model=dict(norm_cfg=dict(type='BN')), sync_bn=None)))
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    check_sync_bn(Config(cfg))
