from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmtlalign.commands.checks import check_shared_memory, shared_memory
from mmtlalign.errors import UserError


def test_full_shared_memory_is_told_before_workers_meet_it(monkeypatch):
    left = SimpleNamespace(free=9 * 2**20)
    monkeypatch.setattr(shared_memory.os.path, 'isdir', lambda path: True)
    monkeypatch.setattr(shared_memory.shutil, 'disk_usage', lambda path: left)
    cfg = Config(dict(train_dataloader=dict(num_workers=1)))
    check_shared_memory(cfg)
    cfg.val_dataloader = dict(num_workers=2)
    too_little = r'\(/dev/shm\) has 9 MiB left, too little for num_workers=2; .*num_workers=0'
    with pytest.raises(UserError, match=too_little):
        check_shared_memory(cfg)
    left.free = 0
    check_shared_memory(Config(dict(test_dataloader=dict(num_workers=0))))
