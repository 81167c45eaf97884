"""Look at data sets in tables, whose classes only the tables name."""

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, DefaultScope

from mmtlalign.errors import UserError


def read_classes(dataset: ConfigDict) -> list[str]:
    """Names of the classes of a ``mmtlalign.HFImageDataset``, in order."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})
    return list(built.read_classes())


def check_tables(tables: dict[str, ConfigDict], model: ConfigDict) -> None:
    """Raise unless all splits have the same classes, as many as the head.

    Args:
        tables (dict[str, ConfigDict]): By place in the config.
        model (ConfigDict): Its head is looked at if it states
            ``num_classes``.

    Raises:
        UserError: Naming both sides and the remedy.
    """
    names = {where: read_classes(dataset) for where, dataset in tables.items()}
    for where, classes in names.items():
        first = next(iter(names))
        if classes != names[first]:
            differing = sorted({*classes} ^ {*names[first]})
            raise UserError(
                f'{where} has other classes than {first}, or another order '
                f'({len(classes)} and {len(names[first])} classes; '
                f'{", ".join(differing[:5]) or "the same names"}): labels '
                'would mean other classes; mend the tables, or set classes '
                'where their order is known'
            )
        wanted = (model.get('head') or {}).get('num_classes', len(classes))
        if wanted != len(classes):
            raise UserError(
                f'model.head.num_classes is {wanted}, but {where} has '
                f'{len(classes)} classes ({", ".join(classes[:5])}'
                f'{", ..." * (len(classes) > 5)}); set it with --cfg-options '
                f'model.head.num_classes={len(classes)}'
            )
