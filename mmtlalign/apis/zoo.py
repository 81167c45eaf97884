"""The models that come along, and the weights of those that were trained."""

from fnmatch import filter as filter_names

from mmengine.fileio import load

from mmtlalign.checkpoint import check_hash
from mmtlalign.errors import UserError
from mmtlalign.resources import ROOT, list_configs


def list_models(pattern: str | None = None, pretrained: bool = False) -> list[str]:
    """Names that :func:`get_model` takes.

    Args:
        pattern (str, optional): With ``*`` and ``?``, such as ``'*swin*'``. Defaults to None, all.
        pretrained (bool): Only those with published weights. Defaults to False.

    Returns:
        list[str]: Sorted.
    """
    names = sorted(find_published() if pretrained else list_configs())
    return filter_names(names, pattern) if pattern else names


def find_published() -> dict[str, str]:
    """Name -> ``Weights`` of the metafiles: an address, or a path in the repository."""
    return {
        entry['Name']: entry['Weights']
        for metafile in load(ROOT / 'model-index.yml')['Import']
        for entry in load(ROOT / metafile).get('Models', [])
        if entry.get('Weights')
    }


def find_weights(name: str, otherwise: str | None = None) -> str:
    """Path or address of the published weights of a model, undamaged.

    Args:
        name (str): Of a config.
        otherwise (str, optional): What to take where none are published. Defaults to an error.

    Raises:
        UserError: If there are none, or the file is absent or damaged.
    """
    published = find_published()
    if name not in published:
        if otherwise:
            return otherwise
        raise UserError(
            f"no weights are published for '{name}': train it, and give its "
            'checkpoint (CHECKPOINT of a command, pretrained=PATH in Python); '
            'list_models(pretrained=True) names those with weights'
        )
    if '://' in published[name]:
        return published[name]
    path = ROOT / published[name]
    if not path.is_file():
        raise UserError(
            f"the weights of '{name}' are not here: '{published[name]}' is in the repository, "
            'but not in installed packages; get it there, and give its path as the checkpoint'
        )
    check_hash(path)
    return str(path)
