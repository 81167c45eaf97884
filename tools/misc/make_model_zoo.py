"""Write model-zoo.md, for reading, from model-index.yml, the metafiles and
the configs that they name.

    python tools/misc/make_model_zoo.py            # writes it
    python tools/misc/make_model_zoo.py --check    # status 1 if it is stale
"""

import argparse
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

from mmtlalign.commands.start_up_noise import silence_known_noise

ROOT = Path(__file__).resolve().parents[2]
RECIPE = 'config | parameters | training | batch'
INTRODUCTION = """\
# Model zoo

Made by `python tools/misc/make_model_zoo.py` from the metafiles under
`configs/`: edit those.

Figures are of the last epoch, in percent, but for IsoScore, which lies between
0 and 1; where there are several seeds, their mean; one seed tells nothing
about which of two lines is better. Weights are always those of the first seed, and the
figure beside them is that seed's, before it was rounded to 16 bits. Nothing
here was trained on ImageNet, COCO or ADE20K: what was trained is small and
made for one CPU, each line by its command, whichever way it fell. A model that
starts from another one of this page needs that one's command first. What such
figures can and cannot show stands in the README of each folder. Figures that
others published stand in tables of their own, with their source, and were not
run here.

```python
import mmtlalign

mmtlalign.list_models(pretrained=True)  # those with weights
model = mmtlalign.get_model(NAME, pretrained=True)  # offline, hash checked
```

```bash
python demo/image_demo.py IMAGE_OR_FOLDER NAME           # what it sees
python tools/test.py NAME zoo/NAME_DATE-HASH.safetensors # the same to 0.1
```
"""


def render(root: Path) -> str:
    """The text of model-zoo.md for the repository at ``root``."""
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    metafiles = [yaml.safe_load((root / path).read_text()) for path in index['Import']]
    for model in (model for meta in metafiles for model in meta['Models']):
        model['File'] = root / model['Config']
    parts = [INTRODUCTION, '## Trained here\n']
    parts += filter(None, (section(meta, trained(meta)) for meta in metafiles))
    parts.append('## Published by others, recipes here\n')
    parts += filter(None, (section(meta, published(meta)) for meta in metafiles))
    return '\n'.join(parts)


def section(meta: dict, rows: Iterator[str]) -> str:
    """Heading and table of a metafile; nothing without rows."""
    rows = list(rows)
    collection = meta['Collections'][0]
    return rows and '\n'.join(
        [f'### [{collection["Name"]}]({collection["README"]})', '', *rows, '']
    )


def trained(meta: dict) -> Iterator[str]:
    """Rows, and then commands, of what was run here."""
    runs = [(model, result) for model in meta['Models'] for result in model.get('Results') or []]
    if not runs:
        return
    yield f'| {RECIPE} | data | start | result | seeds | weights |'
    yield '|---|---|---|---|---|---|---|---|---|'
    for model, result in runs:
        # the weights are those of the first result
        weights = model.get('Weights') if result is model['Results'][0] else None
        seeds = result.get('Seeds', {})
        shown = f'[{next(iter(seeds.values()))}]({weights})' if weights else '-'
        told = ', '.join(map(str, seeds))
        if len(seeds) >= 10 and max(seeds) - min(seeds) == len(seeds) - 1:
            told = f'{min(seeds)} to {max(seeds)}'
        yield (
            f'| {recipe(model)} | {result["Dataset"]} | {result.get("Start", "-")} | '
            f'{figures(result)} | {told} | {shown} |'
        )
    yield ''
    yield '```bash'
    yield from dict.fromkeys(result['Command'] for _, result in runs)
    yield '```'


def published(meta: dict) -> Iterator[str]:
    """Rows of what others report."""
    found = [(model, result) for model in meta['Models'] for result in model.get('Published') or []]
    if not found:
        return
    yield f'| {RECIPE} | data | published | source |'
    yield '|---|---|---|---|---|---|---|'
    for model, result in found:
        yield (
            f'| {recipe(model)} | {result["Dataset"]} | {figures(result)} | '
            f'[source]({result["Source"]}) |'
        )


def recipe(model: dict) -> str:
    """The cells named in ``RECIPE``: name, and what the config says."""
    parameters, length, batch = read_config(model['File'])
    return f'[{model["Name"]}]({model["Config"]}) | {parameters:,} | {length} | {batch}'


@cache
def read_config(path: Path) -> tuple[int, str, int]:
    """Parameters, length of the training, total batch size."""
    config = Config.fromfile(path)
    length = (
        f'{config.train_cfg.max_epochs} epochs'
        if 'max_epochs' in config.train_cfg
        else f'{config.train_cfg.max_iters} iterations'
    )
    return (count_parameters(config), length, config.auto_scale_lr.base_batch_size)


def count_parameters(config: Config) -> int:
    """Number of parameters of a config's model, built in full.

    Built without storage; only what Swin lays out its stochastic depth with needs real numbers.
    """
    model = ConfigDict(config.model)
    if 'train_cfg' in model:  # how to mix or to sample has no parameters
        model.train_cfg = None
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    on_cpu = partial(torch.linspace, device='cpu')
    with (
        DefaultScope.overwrite_default_scope(config.default_scope),
        patch('torch.linspace', on_cpu),
        torch.device('meta'),
    ):
        built = MODELS.build(model)
    return sum(parameter.numel() for parameter in built.parameters())


def figures(result: dict) -> str:
    """All metrics of a result in one cell."""
    return ', '.join(f'{name} {value}' for name, value in result['Metrics'].items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    silence_known_noise()
    path, text = ROOT / 'model-zoo.md', render(ROOT)
    if not args.check:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit(
            f'{path.name} is not what the metafiles say: run python tools/misc/make_model_zoo.py'
        )


if __name__ == '__main__':
    main()
