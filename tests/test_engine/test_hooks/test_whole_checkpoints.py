"""The best checkpoint is there at any moment, and no other's is removed."""

from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmtlalign.engine import keep_checkpoints_whole
from mmtlalign.errors import UserError

from ..toy import LOADER, Model, runner


class Scores(BaseMetric):
    """Figures of one validation after the other."""

    def __init__(self, **scores):
        super().__init__()
        self.scores = {name: iter(values) for name, values in scores.items()}

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {name: next(values) for name, values in self.scores.items()}


class Watch(Hook):
    """Keeps the names of the best ones that are there whenever anything is saved."""

    def __init__(self):
        self.seen = []

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen.append(best_in(runner.work_dir))


def best_in(folder):
    return sorted(path.name for path in Path(folder).glob('best_*'))


@pytest.fixture
def train(tmp_path):
    """Three epochs with these scores; gives what was seen and what is left."""

    def run(info=(), save_best=None, **scores):
        names = save_best or sorted(scores)
        rule = ['greater'] * len(names)
        hook = dict(type='CheckpointHook', save_best=names, rule=rule)
        run = runner(
            tmp_path / 'run',
            Model(),
            [watch := Watch()],
            val_dataloader=LOADER,
            val_cfg=dict(),
            val_evaluator=[Scores(**scores)],
            default_hooks=dict(checkpoint=hook),
        )
        keep_checkpoints_whole(run)
        for name, value in dict(info).items():
            run.message_hub.update_info(name, value)
        run.train()
        return watch.seen, best_in(tmp_path / 'run')

    return run


def test_the_old_best_goes_when_the_new_one_is_there(train):
    seen, left = train(a=[1, 3, 2])
    assert left == ['best_a_epoch_2.pth']
    assert ['best_a_epoch_1.pth'] in seen  # while the next was being saved
    assert all(names for names in seen[3:])


def test_each_metric_has_its_own(train):
    _, left = train(a=[1, 2, 3], b=[3, 2, 1])
    assert left == ['best_a_epoch_3.pth', 'best_b_epoch_1.pth']


def test_what_no_metric_gives_is_no_measure(train):
    with pytest.raises(UserError, match='save_best .* names b, which no metric gives; there are a'):
        train(save_best=['b'], a=[1])


@pytest.mark.parametrize('name', ['file.pth', 'folder'])
def test_what_lies_elsewhere_is_not_removed(train, tmp_path, name):
    """A checkpoint that is resumed in a copy of a work dir, or by somebody who means harm."""
    path = tmp_path / name
    path.mkdir() if name == 'folder' else torch.save({}, path)
    _, left = train(info=dict(best_ckpt=str(path), best_score=0), a=[1, 2, 3])
    assert path.exists() and left == ['best_a_epoch_3.pth']
