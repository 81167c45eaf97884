"""mmengine's runner for strategies, in the order of its older one."""

import copy

from mmengine.runner._flexible_runner import FlexibleRunner

from mmtlalign.registry import RUNNERS


@RUNNERS.register_module()
class ShardedRunner(FlexibleRunner):
    """A FlexibleRunner that builds and calls in the order of ``Runner``.

    The model is built, whole, with the runner, so that its weights can be looked at. Hooks meet
    ``before_run`` before a checkpoint is loaded, which ``EMAHook`` relies on.
    """

    def __init__(self, model: dict, *, env_cfg: dict | None = None, **kwargs) -> None:
        # of a copy, as the host writes into it, and so into the saved config
        super().__init__(copy.deepcopy(model), env_cfg=env_cfg or {}, **kwargs)
        self._has_called_before_run = False
        self.model = self.strategy.build_model(self.model)

    def load_or_resume(self) -> None:
        """Call ``before_run``, and load."""
        self.call_hook('before_run')
        self._has_called_before_run = True
        super().load_or_resume()

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call all hooks, ``before_run`` once."""
        if fn_name != 'before_run' or not self._has_called_before_run:
            super().call_hook(fn_name, **kwargs)
