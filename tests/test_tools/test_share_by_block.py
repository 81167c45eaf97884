"""The tool on a trained tiny model, against a loop of its own."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import get_model

from .tiny import run_tool


def test_means_over_the_test_images(whole, tmp_path, monkeypatch):
    folder, _ = whole
    checkpoint = folder / 'work_dirs/tiny/epoch_3.pth'
    process = run_tool(
        'analysis_tools/share_by_block.py', 'tiny.py', checkpoint, checkpoint,
        '--labels', 'one', 'two', '--out', tmp_path / 'shares.json',
        '--seed', '5', folder=folder)
    assert process.returncode == 0, process.stderr
    means = json.loads(
        (tmp_path / 'shares.json').read_text())['mean_abs_difference']
    assert (tmp_path / 'shares.png').stat().st_size
    assert means['one'] == means['two'] and len(means['one']) == 3
    assert means['one'][0] == pytest.approx(0, abs=1e-6)

    monkeypatch.chdir(folder)
    cfg = Config.fromfile('tiny.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(5)
    model = get_model(cfg, checkpoint)
    images = DATASETS.build(cfg.test_dataloader.dataset)
    gaps = []
    for start in range(0, 12, 4):
        data = model.data_preprocessor(
            pseudo_collate([images[start + i] for i in range(4)]), True)
        trace = LabelTrace(model.backbone)
        with torch.no_grad(), trace(torch.stack(
                [sample.token_share for sample in data['data_samples']])):
            model.extract_feat(data['inputs'])
        gaps += [abs(share - sample.lam).item() for share, sample in zip(
            trace.output_share, data['data_samples'])]
    assert means['one'][-1] == pytest.approx(sum(gaps) / 12, rel=1e-5)
    assert means['one'][-1] > 0


def test_a_config_that_does_not_mix_is_refused(ends_with, tmp_path):
    (tmp_path / 'plain.py').write_text(
        "_base_ = 'tiny.py'\nmodel = dict(train_cfg=None)\n")
    assert ends_with('analysis_tools/share_by_block.py', 'plain.py', 'tiny.py'
                     ) == ("share_by_block.py: config 'plain.py' mixes "
                           'nothing: model.train_cfg names no augments')
