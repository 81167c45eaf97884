"""The runner that commands use."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmtlalign.commands.console import console_handlers, is_for_console
from mmtlalign.errors import UserError


def build_runner(cfg: Config) -> Runner:
    """The runner that a config names, which logs as the host does but for what
    only the log file gets, and refuses to load nothing.

    Raises:
        UserError: No runner has that name; while it runs, if a loader has no batch.
    """
    name = cfg.get('runner_type', 'Runner')
    cls: Any = RUNNERS.get(name)
    if cls is None:
        raise UserError(
            f"runner_type '{name}' is no runner; leave it out, or take one of mmengine's"
        )

    class CommandRunner(cls):
        def _log_env(self, *args) -> None:
            # the first that fills screens; the logger is the runner's, or its strategy's
            for handler in console_handlers(self.logger):
                handler.addFilter(is_for_console)
            super()._log_env(*args)

        @staticmethod
        def build_dataloader(*args, **kwargs) -> DataLoader:
            loader = cls.build_dataloader(*args, **kwargs)
            if not len(loader):  # the host would end without a word, or divide by zero
                raise UserError(
                    f'there is not one batch of the {len(loader.dataset)} images that a data '
                    'loader of the config reads: set another batch_size, drop_last, '
                    'num_batch_per_epoch or times'
                )
            return loader

    return CommandRunner.from_cfg(cfg)
