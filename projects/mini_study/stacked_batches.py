"""The very batches that tools/train.py would train a unit on, without training it.

mmengine's own loop runs over the config's data, mixing and schedule, so that every draw is that of
an ordinary training; in place of a step, what the step would need is kept. One process a seed, as
all arms of a seed see the same images.

    python projects/mini_study/stacked_batches.py REGIME FOLDER SEED...
"""

import os
import signal
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from labels_study import REGIMES, ROOT, Unit
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmtlalign.checkpoint.training_record import read_option
from mmtlalign.models.targets import ObjectTarget

CHUNK = 50  # steps in a file


class Collector:
    """Stands in for ``model.train_step``."""

    def __init__(self, model, folder: Path, seed: int) -> None:
        self.model, self.folder, self.seed = model, folder, seed
        self.steps: list[dict] = []
        self.count = 0

    def __call__(self, data, optim_wrapper) -> dict:
        if not self.count:
            self.keep_start(optim_wrapper.optimizer)
        data = self.model.data_preprocessor(data, True)
        record, samples = data['mix'], data['data_samples']
        images = data['inputs']
        labels = torch.cat([sample.gt_label for sample in samples])
        step = dict(
            images=images[:, 0],  # of three that are alike
            own=labels,
            partner=labels[record.partner],
            token_share=record.token_share,
            area=record.lam,
            object=ObjectTarget().share(record, None, images, samples),
        )
        assert torch.equal(images[:, :1].expand_as(images), images)
        step = {name: value.numpy().copy() for name, value in step.items()}
        self.steps.append(step | dict(lr=np.float64(optim_wrapper.get_lr()['lr'][0])))
        self.count += 1
        if self.count % CHUNK == 0:
            self.write()
        return dict(loss=torch.zeros(()))

    def keep_start(self, optimizer) -> None:
        """Initial weights, and which of them decay."""
        decay = {
            id(p): group['weight_decay']
            for group in optimizer.param_groups
            for p in group['params']
        }
        names = {name: decay[id(p)] for name, p in self.model.named_parameters()}
        weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        torch.save((weights, names), self.folder / f'{self.seed}_start.part')
        os.rename(self.folder / f'{self.seed}_start.part', self.folder / f'{self.seed}_start')

    def write(self) -> None:
        """A chunk of steps, as a file that is whole or absent."""
        path = self.folder / f'{self.seed}_{(self.count - 1) // CHUNK}'
        stacked = {name: np.stack([s[name] for s in self.steps]) for name in self.steps[0]}
        with open(f'{path}.part', 'wb') as file:
            np.savez(file, **stacked)
        os.rename(f'{path}.part', path)
        self.steps = []


def load_config(unit: Unit) -> Config:
    """That of a unit, as tools/train.py has it."""
    cfg = Config.fromfile(ROOT / unit.config)
    read = map(read_option, unit.options)
    cfg.merge_from_dict({'.'.join(keys): value for keys, value in read})
    cfg.experiment_name = unit.name  # mmengine takes runs of one name and second for one
    return cfg


def collect(regime: str, folder: Path, seed: int) -> None:
    """Run a seed's loop; files appear in the folder, a chunk at a time."""
    torch.set_num_threads(1)
    cfg = load_config(Unit('confirm', regime, 'area', seed))
    cfg.val_dataloader.dataset.num_images = 10  # nothing is validated
    cfg.train_cfg.val_interval = 10**6
    cfg.default_hooks = dict(cfg.default_hooks, logger=None, checkpoint=None)
    cfg.log_level = 'ERROR'
    init_default_scope('mmpretrain')
    with tempfile.TemporaryDirectory() as work_dir:
        cfg.work_dir = work_dir
        runner = Runner.from_cfg(cfg)
        collector = Collector(runner.model, folder, seed)
        runner.model.train_step = collector
        runner.train()
    if collector.steps:
        collector.write()


def main() -> None:
    regime, folder, *seeds = sys.argv[1:]
    assert regime in REGIMES and not torch.cuda.is_available()
    context = get_context('fork')  # which need not import anything again
    processes = [
        context.Process(target=collect, args=(regime, Path(folder), int(seed)), daemon=True)
        for seed in seeds
    ]
    for process in processes:
        process.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends them all
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode for process in processes))


if __name__ == '__main__':
    main()
