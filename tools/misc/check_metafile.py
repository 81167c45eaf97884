"""Check model-index.yml, every metafile.yml and the README beside it.

Values are checked, not only keys: paths, names and the batch size in them,
results in the README, and weights in the zoo: their hash, and the figures of
seed 0 that they and their log record. What a config says by itself (epochs,
batch size, parameters) stands in no metafile: make_model_zoo.py reads it.
Prints one line per problem and ends with status 1 if there is any.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from urllib.parse import urlsplit

import yaml
from mmengine.config import Config

from mmtlalign.checkpoint import check_hash, load_checkpoint_safely
from mmtlalign.commands.start_up_noise import silence_known_noise
from mmtlalign.errors import UserError

COLLECTION_KEYS = {'Name', 'Metadata', 'Paper', 'README'}
MODEL_KEYS = {'Name', 'In Collection', 'Config', 'Metadata'}
OPTIONAL_MODEL_KEYS = {'Results', 'Published', 'Weights'}
METADATA_KEYS = {'Training Data'}
RESULT_KEYS = {'Task', 'Dataset', 'Metrics'}
OPTIONAL_RESULT_KEYS = {'Start'}  # of the weights
# A metric's name here: its key in logs, and what makes it percent.
LOGGED = {
    'Top 1 Accuracy': ('accuracy/top1', 1),
    'Top 5 Accuracy': ('accuracy/top5', 1),
    'box AP': ('coco/bbox_mAP', 100),
    'box AP50': ('coco/bbox_mAP_50', 100),
    'mIoU': ('mIoU', 1),
}
# {algorithm}_{module}_{devices}xb{batch per device}[-{training}]_{data}
NAME = re.compile(
    r'[a-z0-9-]+(_[a-z0-9-]+)+_(?P<devices>\d+)xb(?P<batch>\d+)'
    r'(-[a-z0-9-]+)?_[a-z0-9-]+'
)


def check(root: Path) -> Iterator[str]:
    """Yield one line per problem in the repository at ``root``."""
    listed = yaml.safe_load((root / 'model-index.yml').read_text())['Import']
    present = [path.relative_to(root).as_posix() for path in root.glob('configs/**/metafile.yml')]
    yield from _compare('model-index.yml', 'metafile', listed, present)
    for metafile in sorted(set(listed) & set(present)):
        for problem in check_metafile(root, metafile):
            yield f'{metafile}: {problem}'


def check_metafile(root: Path, metafile: str) -> Iterator[str]:
    """Yield the problems of one metafile, a path relative to ``root``."""
    meta = yaml.safe_load((root / metafile).read_text())
    folder = (root / metafile).parent
    for collection in meta['Collections']:
        yield from _check_collection(root, collection)
    names = [collection['Name'] for collection in meta['Collections']]
    configs = [path.stem for path in folder.glob('*.py')]
    yield from _compare(
        'Models', 'config', [model.get('Name') for model in meta['Models']], configs
    )
    readme = (folder / 'README.md').read_text()
    for model in meta['Models']:
        for problem in _check_model(root, folder, model, names):
            yield f'{model.get("Name")}: {problem}'
        yield from _check_readme(readme, model)


def _compare(where: str, what: str, listed: list[str], present: list[str]) -> Iterator[str]:
    """Everything present must be listed exactly once, and nothing else."""
    for name in sorted(set(present) - set(listed)):
        yield f'{where}: {what} {name} is not listed'
    for name in sorted(set(listed) - set(present)):
        yield f'{where}: {what} {name} does not exist'
    for name in sorted(set(name for name in listed if listed.count(name) > 1)):
        yield f'{where}: {what} {name} is listed {listed.count(name)} times'


def _check_keys(entry: dict, required: set, optional=frozenset()):
    for key in sorted(required - set(entry)):
        yield f'key {key!r} is missing'
    for key in sorted(set(entry) - required - optional):
        yield f'key {key!r} is unknown'


def _check_collection(root: Path, collection: dict) -> Iterator[str]:
    name = collection.get('Name')
    for problem in _check_keys(collection, COLLECTION_KEYS):
        yield f'collection {name}: {problem}'
    if not (root / collection.get('README', '')).is_file():
        yield f'collection {name}: README {collection.get("README")} does not exist'
    yield from _check_url(f'collection {name}: Paper', collection.get('Paper', {}).get('URL'))


def _check_url(where: str, url: str) -> Iterator[str]:
    parts = urlsplit(url or '')
    if parts.scheme != 'https' or '.' not in parts.netloc or not parts.path:
        yield f'{where}: URL {url!r} is not of the form https://HOST/PATH'


def _check_model(root: Path, folder: Path, model: dict, collections: list[str]) -> Iterator[str]:
    yield from _check_keys(model, MODEL_KEYS, OPTIONAL_MODEL_KEYS)
    yield from _check_keys(model.get('Metadata') or {}, METADATA_KEYS)
    if model.get('In Collection') not in collections:
        yield f'In Collection: {model.get("In Collection")!r} is unknown'
    path = root / model.get('Config', '')
    if path != folder / f'{model.get("Name")}.py' or not path.is_file():
        yield f'Config: {model.get("Config")} is not the file of that name in this folder'
        return
    yield from _check_name(model['Name'], Config.fromfile(path))
    for key in ('Results', 'Published'):
        for result in model.get(key) or []:
            yield from _check_result(key, result)
    for result in model.get('Results') or []:
        yield from _check_run(model['Config'], result)
    if '://' not in model.get('Weights', '://'):
        yield from _check_weights(root / model['Weights'], model)


def _check_name(name: str, config: Config) -> Iterator[str]:
    """The batch size in a name is that of the config."""
    match = NAME.fullmatch(name)
    if match is None:
        form = '{algorithm}_{module}_{N}xb{M}_{data}'
        yield f'the name is not {form} or ..._{{N}}xb{{M}}-{{training}}_{{data}}'
        return
    devices, batch = int(match['devices']), int(match['batch'])
    per_device, total = config.train_dataloader.batch_size, config.auto_scale_lr.base_batch_size
    if batch != per_device:
        yield f'the name says batch {batch} per device, the config {per_device}'
    if devices * batch != total:
        yield f'the name says {devices} x {batch} images, the learning rate is for {total}'


def _check_result(where: str, result: dict) -> Iterator[str]:
    source = {'Source'} if where == 'Published' else {'Command', 'Seeds'}
    for problem in _check_keys(result, RESULT_KEYS | source, OPTIONAL_RESULT_KEYS):
        yield f'{where}: {problem}'
    for name, value in result.get('Metrics', {}).items():
        if not isinstance(value, (int, float)) or not 0 < value <= 100:
            yield f'{where}: {name}: {value!r} is no percentage'
    if where == 'Published':
        yield from _check_url(where, result.get('Source'))


def _check_run(config: str, result: dict) -> Iterator[str]:
    """A result of ours: its command; its first metric, of each seed."""
    if config not in result.get('Command', '').split():
        yield 'Results: Command does not name the config'
    for name, stated in list(result.get('Metrics', {}).items())[:1]:
        mean = fmean(result.get('Seeds', {0: stated}).values())
        if abs(mean - stated) > 0.0101:  # both may be rounded to 0.01
            yield f'Results: {name} {stated} is not the mean of the seeds, {mean:.2f}'


def _check_weights(path: Path, model: dict) -> Iterator[str]:
    """A file of the zoo: that of this model, of its first seed, with its figure."""
    try:
        check_hash(path)
        meta = load_checkpoint_safely(str(path))['meta']
    except (OSError, UserError) as error:
        yield f'Weights: {error}'
        return
    first = next(iter(model['Results'][0]['Seeds'])) if model.get('Results') else 0
    if (meta.get('name'), meta.get('seed')) != (model['Name'], first):
        yield (
            f'Weights: {path.name} is of {meta.get("name")}, seed '
            f'{meta.get("seed")}, and not of seed {first} of this model'
        )
    log = path.with_name(f'{path.stem.rpartition("-")[0]}.log.json')
    if not log.is_file():
        yield f'Weights: the log of {path.name} does not lie beside it'
        return
    logged = {}  # the last value of each key
    for line in log.read_text().splitlines():
        logged.update(json.loads(line))
    for name, stated in _figures_of_first_seed(model).items():
        if name not in LOGGED:
            yield f'Weights: {name} has no key in LOGGED to compare it by'
            continue
        key, factor = LOGGED[name]
        for where, values in ((path.name, meta.get('metrics', {})), (log.name, logged)):
            found = values.get(key)
            if found is None or abs(factor * found - stated) > 0.0101:
                yield (
                    f'Weights: {where} does not record the {name} {stated} '
                    f'that is stated for seed {first}, but {found}'
                )


def _figures_of_first_seed(model: dict) -> dict:
    """Of the first result, whose weights are published; all of its metrics
    where there is one seed, else the first."""
    if not model.get('Results'):
        return {}
    figures, seeds = (model['Results'][0][key] for key in ('Metrics', 'Seeds'))
    return figures if len(seeds) == 1 else {next(iter(figures)): next(iter(seeds.values()))}


def _check_readme(readme: str, model: dict) -> Iterator[str]:
    """The README's table has a row per model, with the same figures."""
    name = model.get('Name')
    rows = [line for line in readme.splitlines() if f'[{name}]' in line]
    if len(rows) != 1:
        yield f'README: {len(rows)} rows for {name}'
        return
    for key in ('Results', 'Published'):
        for result in model.get(key) or []:
            for metric, value in result['Metrics'].items():
                if not re.search(rf'(?<![\d.]){value}(?!\d|\.\d)', rows[0]):
                    yield f'README: the row of {name} lacks {metric} {value}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'root',
        nargs='?',
        type=Path,
        default=Path(__file__).resolve().parents[2],
        help='repository to check (default: the one this file is in)',
    )
    root = parser.parse_args().root
    silence_known_noise()
    problems = list(check(root))
    print(*problems, sep='\n', end='\n' if problems else '')
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
