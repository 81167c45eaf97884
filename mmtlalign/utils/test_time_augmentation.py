"""Testing on several sizes and mirror images."""
from mmengine.config import Config, ConfigDict

from .errors import UserError


def use_tta(cfg: Config) -> None:
    """Make a config test with its own test-time augmentation.

    Args:
        cfg (Config): Modified in place. Its ``tta_pipeline`` replaces the
            test pipeline, and its ``tta_model`` wraps the model.

    Raises:
        UserError: If the config has no ``tta_model`` or ``tta_pipeline``.
    """
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise UserError(f'--tta needs {key} in the config; the ADE20K '
                            'configs have it')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
