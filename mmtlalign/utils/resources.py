"""What comes along with the package: configs, their metafiles, the tools."""
import os
from difflib import get_close_matches
from pathlib import Path

from .errors import UserError


def find_root(package: Path) -> Path:
    """The folder that holds ``configs/``, ``tools/`` and the model index.

    Args:
        package (Path): Folder of the package.

    Returns:
        Path: ``.mim`` in the package, where setup.py puts them in a wheel;
        the folder above the package, if that lies in a checkout.
    """
    packed = package / '.mim'
    return packed if packed.is_dir() else package.parent


ROOT = find_root(Path(__file__).resolve().parents[1])


def list_configs() -> dict[str, Path]:
    """The configs that come along, by name, those in ``_base_`` left out."""
    return {path.stem: path
            for path in sorted((ROOT / 'configs').glob('**/*.py'))
            if '_base_' not in path.parts}


def find_config(config: str | os.PathLike) -> str:
    """The path of a config.

    Args:
        config (str | PathLike): Path, or name of a config that comes along
            (``'tlalign_deit-small_8xb128_in1k'``).

    Raises:
        UserError: If there is none; names the closest one.
    """
    if os.path.isfile(config):
        return os.fspath(config)
    configs = list_configs()
    if config in configs:
        return str(configs[config])
    close = get_close_matches(Path(config).stem, configs, n=1)
    raise UserError(
        f"config '{config}' does not exist: no such file, and none of the "
        f'{len(configs)} names that come along'
        + (f" (closest: '{close[0]}')" if close else '')
        + f'; these are the files under {ROOT / "configs"}')
