"""Checkpoints that survive a kill at any moment."""

import os.path as osp
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmtlalign.output_files import write_whole

# By StopOnSignal, within an epoch.
INTERRUPTED = 'interrupted_epoch_{}_iter_{}.pth'


class WholeCheckpointHook(CheckpointHook):
    """The host's hook, which loses nothing whenever the process is killed.

    The host removes an old checkpoint before it writes the next one. Here it
    is written beside and renamed (:mod:`mmtlalign.output_files` sees to
    that), then named in ``last_checkpoint``, and then the old one goes.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        obsolete = self._count(runner, step)
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
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # of sharded trainings
                self.file_backend.rmtree(path)

    def _count(self, runner: Runner, step: int) -> list[int]:
        """Note a step among those kept; returns those to remove."""
        if self.max_keep_ckpts <= 0 or step in [*self.keep_ckpt_ids][-1:]:
            return []
        obsolete = [*self.keep_ckpt_ids][: len(self.keep_ckpt_ids) + 1 - self.max_keep_ckpts]
        self.keep_ckpt_ids.append(step)  # drops them, as its length is that
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return obsolete


def keep_checkpoints_whole(runner: Runner) -> None:
    """Let the host's hook of a runner save as this one does."""
    for hook in runner.hooks:
        if type(hook) is CheckpointHook:
            hook.__class__ = WholeCheckpointHook


def name_last(runner: Runner, path: str) -> None:
    """Make a checkpoint the one that a training is resumed from."""
    write_whole(osp.join(runner.work_dir, 'last_checkpoint'), path)
