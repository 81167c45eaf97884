"""Checkpoints that survive a kill at any moment."""

import os.path as osp
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

# By StopOnSignal, within an epoch.
INTERRUPTED = 'interrupted_epoch_{}_iter_{}.pth'


class WholeCheckpointHook(CheckpointHook):
    """The host's hook, which loses nothing whenever the process is killed.

    The host removes an old checkpoint before it writes the next one. Here it is written beside and
    renamed (:mod:`mmtlalign.output_files` sees to that), then named in ``last_checkpoint``, and
    then the old one goes. So does the old best one, but only out of this run's folder: what is
    resumed names the place that it had, which may be another's by now.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        obsolete: list[int] = []
        if self.max_keep_ckpts > 0 and step not in [*self.keep_ckpt_ids][-1:]:
            obsolete = [*self.keep_ckpt_ids][: len(self.keep_ckpt_ids) + 1 - self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)  # drops them, as its length is that
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        name_last(runner, self.last_ckpt)
        for path in Path(runner.work_dir).glob(INTERRUPTED.format('*', '*')):
            path.unlink()
        for old in obsolete:
            self._remove(self.filename_tmpl.format(old))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        if missing := {*self.key_indicators} - {'auto', *metrics}:
            raise UserError(
                f'save_best of the CheckpointHook names {", ".join(sorted(missing))}, which no '
                f'metric gives; there are {", ".join(metrics)}'
            )
        before = dict(self._best)
        self._best = dict.fromkeys(before)  # so that the host removes nothing
        super()._save_best_checkpoint(runner, metrics)
        after = dict(self._best)
        self._best = {key: after[key] or old for key, old in before.items()}
        for old, new in zip(before.values(), after.values()):
            if old and new and osp.basename(old) != osp.basename(new) and is_main_process():
                self._remove(osp.basename(old))

    @property
    def _best(self) -> dict[str, str | None]:
        """The best checkpoint by each of the metrics, which the host keeps in two ways."""
        several = getattr(self, 'best_ckpt_path_dict', None)
        return {'': self.best_ckpt_path} if several is None else several

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if '' in paths:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _remove(self, name: str) -> None:
        """A checkpoint of this run."""
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # of sharded trainings
            self.file_backend.rmtree(path)


def keep_checkpoints_whole(runner: Runner) -> None:
    """Let the host's hook of a runner save as this one does."""
    for hook in runner.hooks:
        if type(hook) is CheckpointHook:
            hook.__class__ = WholeCheckpointHook


def name_last(runner: Runner, path: str) -> None:
    """Make a checkpoint the one that a training is resumed from."""
    write_whole(osp.join(runner.work_dir, 'last_checkpoint'), path)
