"""Every part of a training that was resumed, in its checkpoints."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class RecordLegs(Hook):
    """Note in ``meta['legs']`` what each part of a training was.

    A leg is what one process, or group of them, did: its time stamp, which names the folder of its
    log, where it began, the number of processes, and what its config changed in that of the leg
    before. ``tools/train.py`` registers this hook for every training; publishing reads it.

    Args:
        changes (list[str]): Since the leg before. Defaults to none.
    """

    def __init__(self, changes: list[str] = ()) -> None:
        self.changes = list(changes)
        self._earlier: list[dict] = []
        self._begin = dict(epoch=0, iter=0)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the legs before."""
        self._earlier = list(checkpoint.get('meta', {}).get('legs', []))

    def before_train(self, runner: Runner) -> None:
        """Note where this one begins."""
        self._begin = dict(epoch=runner.epoch, iter=runner.iter)
        if not runner.iter:  # weights alone were loaded
            self._earlier = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add them all."""
        processes = runner.world_size
        leg = dict(self._begin, time=runner.timestamp, processes=processes, changes=self.changes)
        checkpoint['meta'].update(world_size=processes, legs=[*self._earlier, leg])
