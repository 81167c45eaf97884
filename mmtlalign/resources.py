"""What comes along with the package: configs, their metafiles, the tools."""

import os
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import FrameType

from mmengine.config import Config
from mmengine.registry import MODELS

from .data_configs import read_data_config
from .errors import UserError, is_own_code, warn
from .host_check import check_host

# Of the files that mmengine reads a config from.
SUFFIXES = ('.py', '.json', '.yaml', '.yml')
# Folders of configs that were named by size, and what they are called now.
MOVED = {
    'classification/study': 'classification/tlalign',
    'detection/mini': 'detection/tlalign',
    'segmentation/mini': 'segmentation/tlalign',
}


def find_root(package: Path) -> Path:
    """The folder that holds ``configs/``, ``tools/`` and the model index: ``.mim`` in the package,
    where setup.py puts them in a wheel, or the folder above the package in a checkout."""
    packed = package / '.mim'
    return packed if packed.is_dir() else package.parent


ROOT = find_root(Path(__file__).resolve().parent)


def list_configs() -> dict[str, Path]:
    """The configs that come along, by name, those in ``_base_`` left out."""
    return {
        path.stem: path
        for path in sorted((ROOT / 'configs').glob('**/*.py'))
        if '_base_' not in path.parts
    }


def find_config(config: str | os.PathLike) -> str:
    """The path of a config.

    Args:
        config (str | PathLike): Path, or name of a config that comes along
            (``'tlalign_deit-small_8xb128_in1k'``), with or without ``.py``.

    Raises:
        UserError: If there is none, naming the closest one, or the file is no config.
    """
    path = Path(config)
    configs = list_configs()
    name = os.fspath(config).removesuffix('.py')
    if name in configs:
        if path.is_file() and not path.samefile(configs[name]):
            warn(
                f"'{path}' is the name of a config that comes along, and that one is "
                f"taken; for the file here, give './{path}'"
            )
        return str(configs[name])
    if path.is_file() and path.suffix in SUFFIXES:
        return os.fspath(config)
    if path.is_file():
        raise UserError(
            f"config '{config}' is no config: its name ends in none of {', '.join(SUFFIXES)}; the "
            'config is named first, then the checkpoint'
        )
    moved = MOVED.get('/'.join(path.parts[-3:-1]))
    if moved and path.stem in configs:
        raise UserError(f"config '{config}' has moved: it is now 'configs/{moved}/{path.stem}.py'")
    close = get_close_matches(path.stem, configs, n=1)
    raise UserError(
        f"config '{config}' does not exist: no such file, and none of the "
        f'{len(configs)} names that come along'
        + (f" (closest: '{close[0]}')" if close else '')
        + f'; these are the files under {ROOT / "configs"}'
    )


def open_config(config: str | os.PathLike, trust: bool = False) -> Config:
    """Read a config; one in Python is code, and is run, and one in YAML or JSON is data.

    Args:
        config (str | PathLike): See :func:`find_config`.
        trust (bool): Let one in YAML or JSON name code, too. Defaults to False.

    Raises:
        UserError: If there is none, or it or one that its ``_base_`` names
            cannot be read, such as one of a host that is not installed.
    """
    path = find_config(config)
    try:
        return Config.fromfile(path) if trust or path.endswith('.py') else read_data_config(path)
    except UserError:
        raise
    except ModuleNotFoundError as error:  # begins with the host's name
        check_host(Config(dict(default_scope=str(error).split()[0])))
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if isinstance(error, RecursionError) and (loop := find_loop(frames)):
            reason = f'its _base_ leads back to itself: {loop}'
        elif isinstance(error, (OSError, SyntaxError, ValueError)) or (not is_own_code(frames)):
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
        else:
            raise
        raise UserError(
            f"config '{path}' cannot be read ({reason}); correct it, or what its _base_ names"
        ) from error


def find_loop(frames: list[FrameType]) -> str | None:
    """The files, out of many, that name each other as their base."""
    code = Config._file2dict.__code__
    read = [frame.f_locals['filename'] for frame in frames if frame.f_code is code]
    if len(set(read)) == len(read):
        return None
    loop = list(dict.fromkeys(read[len(read) // 2 :]))  # well within it
    loop = loop[loop.index(min(loop)) :] + loop[: loop.index(min(loop))]
    return ' -> '.join(map(os.path.relpath, [*loop, loop[0]]))


def check_model(cfg: Config) -> None:
    """Raise a UserError for a part of configs that has no model."""
    if 'model' not in cfg:
        raise UserError(
            f"config '{cfg.filename}' has no model: it is a part of others; give one that names it "
            'in its _base_'
        )


def check_data_of(cfg: Config, phase: str) -> None:
    """Raise a UserError for a config without data for training or testing."""
    if not isinstance(cfg.get(f'{phase}_dataloader'), dict):
        raise UserError(
            f"config '{cfg.filename}' has no {phase}_dataloader: give one that names its data"
        )


def check_class(cfg: Config, expected: type) -> None:
    """Raise a UserError if a config's model is of another class, and of no subclass."""
    check_model(cfg)
    check_host(cfg)
    with MODELS.switch_scope_and_registry(cfg.get('default_scope', 'mmpretrain')) as registry:
        found = registry.get(cfg.model.type)
    if not (isinstance(found, type) and issubclass(found, expected)):
        raise UserError(
            f"config '{cfg.filename}' is of a {cfg.model.type}, "
            f'not of a {expected.__name__}; give one that is'
        )
