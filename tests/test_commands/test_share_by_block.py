"""The tool on a trained tiny model, against a loop of its own."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from sklearn.linear_model import LinearRegression

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import get_model
from mmtlalign.commands import share_by_block
from mmtlalign.errors import UserError

from ..tiny import run_tool


def test_figures_of_the_test_images(whole, tmp_path, monkeypatch):
    folder, _ = whole
    checkpoint = folder / 'work_dirs/tiny/epoch_3.pth'
    process = run_tool(
        'analysis_tools/share_by_block.py', 'tiny.py', checkpoint, checkpoint,
        '--labels', 'one', 'two', '--out', tmp_path / 'shares.json',
        '--seed', '5', folder=folder)
    assert process.returncode == 0, process.stderr
    found = json.loads(
        (tmp_path / 'shares.json').read_text())['checkpoints']
    assert (tmp_path / 'shares.png').stat().st_size
    assert found['one'] == found['two']
    means = found['one']['mean_abs_difference']
    assert len(means) == 3 and means[0] == pytest.approx(0, abs=1e-6)

    monkeypatch.chdir(folder)
    cfg = Config.fromfile('tiny.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(5)
    model = get_model(cfg, checkpoint)
    images = DATASETS.build(cfg.test_dataloader.dataset)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    gaps, pairs = [], []
    for batch in order.split(4):
        data = model.data_preprocessor(
            pseudo_collate([images[int(i)] for i in batch]), True)
        trace = LabelTrace(model.backbone)
        with torch.no_grad(), trace(data['mix'].token_share):
            chances = model(data['inputs']).softmax(1)
        for i, (share, lam, partner) in enumerate(zip(
                trace.output_share, data['mix'].lam,
                batch.flip(0).tolist())):  # the default: image B-1-i
            gaps.append(abs(share - lam).item())
            own, other = (images[j]['data_samples'].gt_label.item()
                          for j in (int(batch[i]), partner))
            if own != other:
                answer = chances[i, own] / chances[i, [own, other]].sum()
                pairs.append([lam, share, answer])
    assert means[-1] == pytest.approx(sum(gaps) / 12, rel=1e-5)
    assert means[-1] > 0
    assert found['one']['pairs'] == len(pairs)
    lam, share, answer = torch.tensor(pairs, dtype=torch.float64).numpy().T
    powers = np.stack([lam, lam ** 2, lam ** 3], 1)
    rest = [values - LinearRegression().fit(powers, values).predict(powers)
            for values in (share, answer)]
    assert found['one']['correlation'][-1] == pytest.approx(
        np.corrcoef(*rest)[0, 1], abs=1e-3)


def test_shares_that_follow_the_answer_correlate_and_others_do_not():
    """At equal lam: lam alone moves shares and answers together too."""
    rng = np.random.default_rng(0)
    lam, seen, other = rng.uniform(size=(3, 4000))
    answer = lam ** 2 + .1 * seen
    shares = lam + .1 * np.stack([0 * lam, seen, -seen, other])
    follows, opposes, ignores = share_by_block.correlate(shares, lam, answer)
    assert follows == pytest.approx(1) and opposes == pytest.approx(-1)
    assert abs(ignores) < 3 / 4000 ** .5


def test_images_of_one_label_answer_nothing():
    with pytest.raises(UserError, match='no test image was mixed with'):
        share_by_block.summarize(
            torch.ones(3, 2), torch.ones(2), torch.full((2, ), torch.nan))


def test_a_config_that_does_not_mix_is_refused(ends_with, tmp_path):
    (tmp_path / 'plain.py').write_text(
        "_base_ = 'tiny.py'\nmodel = dict(train_cfg=None)\n")
    assert ends_with('analysis_tools/share_by_block.py', 'plain.py', 'tiny.py'
                     ) == ("share_by_block.py: config 'plain.py' mixes "
                           'nothing: model.train_cfg names no augments')


@pytest.mark.parametrize('config, line', [
    ('tlalign_deit-digits_1xb32_digits', 'does not fit the config'),
    ('deit-small_tlalign-pre_8xb96_cifar10-224px', 'is of a ImageClassifier, '
     'not of a TLAlignClassifier')])
def test_a_config_that_comes_along_is_taken_by_its_name(
        ends_with, whole, config, line):
    assert line in ends_with('analysis_tools/share_by_block.py', config,
                             whole[0] / 'work_dirs/tiny/epoch_3.pth')


def test_checkpoints_are_named_by_their_folders(tmp_path):
    names = ['a/epoch_1.pth', 'a/epoch_2.pth', 'b/epoch_2.pth']
    paths = [str(tmp_path / name) for name in names]
    assert share_by_block.name_checkpoints(paths, None) == [
        'a/epoch_1', 'a/epoch_2', 'b']
    assert share_by_block.name_checkpoints(paths, ['x', 'y', 'z']) == [
        'x', 'y', 'z']


@pytest.mark.parametrize('arguments, label', [
    (['tiny.py', 'images/class0/0.png', '--labels', 'one', 'one'], 'one'),
    (['images/class0/0.png', 'images/class0/0.png'], 'class0/0')])
def test_two_checkpoints_with_one_label_are_refused(ends_with, arguments,
                                                    label):
    assert ends_with('analysis_tools/share_by_block.py', 'tiny.py',
                     *arguments) == (
        f"share_by_block.py: label '{label}' stands for 2 checkpoints; tell "
        'them apart with --labels')


def test_a_folder_that_cannot_be_made_is_told_first(ends_with):
    assert "folder 'tiny.py' cannot be " in ends_with(
        'analysis_tools/share_by_block.py', 'tiny.py', 'tiny.py', '--out',
        'tiny.py/a.json')
