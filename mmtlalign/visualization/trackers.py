"""mmengine's backends for trackers, made to go on with a run.

Each opens its record when it is first written to, by the id it is given or
under a new one, and then has the id as ``run_id``.
"""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.visualization import AimVisBackend, MLflowVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mmtlalign.registry import VISBACKENDS

MAX_PARAM = 500  # characters of a value, the least that MLflow's stores take


@VISBACKENDS.register_module()
class WandbTracker(WandbVisBackend):
    """Weights & Biases, in ``wandb/`` of a folder; every entry also holds its step."""

    def __init__(self, save_dir: str, run_id: str | None = None, **init_kwargs) -> None:
        super().__init__(save_dir, dict(init_kwargs, id=run_id, resume='allow'))
        self.run_id = run_id

    def _init_env(self) -> None:
        super()._init_env()
        self.run_id = self._wandb.run.id
        self._wandb.define_metric('*', step_metric='step')

    @force_init_env
    def add_config(self, config: Config, **kwargs) -> None:
        """The config alone: the host's would send all code in the folder."""
        self._wandb.config.update(config.to_dict(), allow_val_change=True)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path=None, **kwargs) -> None:
        """With their step, since a resumed run counts entries anew."""
        self._wandb.log({**scalar_dict, 'step': step})

    def close(self) -> None:
        """End the run."""
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@VISBACKENDS.register_module()
class MLflowTracker(MLflowVisBackend):
    """MLflow on a database: its releases since 3 refuse folders of files.

    Args:
        save_dir (str): Folder of ``mlflow.db`` and of what is kept as files.
        run_id (str, optional): Of a run to go on with; if the database has none of this id, a new
            one begins. Defaults to None.
        exp_name (str): Of the experiment. Defaults to ``'mmtlalign'``.
        run_name (str, optional): Of a new run.
        tracking_uri (str, optional): Of another store. Defaults to None, the database.
    """

    def __init__(
        self,
        save_dir: str,
        run_id: str | None = None,
        exp_name: str = 'mmtlalign',
        run_name: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        root = Path(save_dir).absolute()
        super().__init__(
            save_dir,
            exp_name,
            tracking_uri=tracking_uri or f'sqlite:///{root / "mlflow.db"}',
            artifact_location=None if tracking_uri else (root / 'mlartifacts').as_uri(),
        )
        self.run_id = run_id
        self._new_name = run_name

    def _init_env(self) -> None:
        super()._init_env()
        known = self.run_id and self._mlflow.MlflowClient().search_runs(
            [self._mlflow.get_experiment_by_name(self._exp_name).experiment_id],
            f"attributes.run_id = '{self.run_id}'",
        )
        run = self._mlflow.start_run(
            run_id=self.run_id if known else None, run_name=None if known else self._new_name
        )
        self.run_id = run.info.run_id

    @force_init_env
    def add_config(self, config: Config, **kwargs) -> None:
        """As a file; of a new run also as parameters, which cannot change."""
        self.cfg = config
        self._mlflow.log_text(config.pretty_text, 'config.py')
        if not self._mlflow.get_run(self.run_id).data.params:
            flat = self._flatten(config.to_dict())
            self._mlflow.log_params({key: str(flat[key])[:MAX_PARAM] for key in flat})

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """As NAME.png; the host's name has no ending, which MLflow refuses."""
        self._mlflow.log_image(image, f'{name}.png')

    def close(self) -> None:
        """End the run, without copies of what the work dir has."""
        if hasattr(self, '_mlflow'):
            self._mlflow.end_run()


@VISBACKENDS.register_module()
class AimTracker(AimVisBackend):
    """Aim, in ``.aim/`` of a folder; the id of a run is its hash."""

    def __init__(
        self, save_dir: str, run_id: str | None = None, experiment: str = 'mmtlalign'
    ) -> None:
        options = dict(repo=save_dir, run_hash=run_id, experiment=experiment)
        quiet = dict(system_tracking_interval=None, capture_terminal_logs=False)
        super().__init__(save_dir, options | quiet)
        self.run_id = run_id

    def _init_env(self) -> None:
        super()._init_env()
        self.run_id = self._aim_run.hash

    @force_init_env
    def add_config(self, config: Config, **kwargs) -> None:
        """As text, which keeps what Aim's tree does not: tuples, None."""
        self._aim_run['config'] = config.pretty_text
