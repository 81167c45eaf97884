"""The file of a validation, of whatever metrics."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.dataset import BaseDataset

from mmtlalign.engine import KeepPredictions


def test_only_figures_are_kept_of_metrics(tmp_path):
    dataset = BaseDataset(lazy_init=True, serialize_data=False)
    dataset._fully_initialized = True
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(tmp_path),
        world_size=1,
        epoch=1,
        iter=2,
    )
    hook = KeepPredictions()
    hook.before_val_epoch(runner)
    figures = dict(whole=1, part=np.float32(0.5), single=torch.tensor(2.0))
    others = dict(matrix=torch.eye(2), each=[1.0, 2.0], none=None, word='a')
    hook.after_val_epoch(runner, {**figures, **others})
    found = json.loads((tmp_path / 'predictions.json').read_text())
    assert found['metrics'] == dict(whole=1.0, part=0.5, single=2.0)
