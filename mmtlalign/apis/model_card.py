"""The README of a published folder, which hubs show as the model's page."""

import json
from pathlib import Path

from mmengine.config import Config

from mmtlalign.errors import UserError

CARD = """\
---
library_name: timm
pipeline_tag: image-classification
license: {license}
tags:
- image-classification
- timm
- mmtlalign
---
# {name}

{what}

```python
import timm

# without pretrained=True, timm builds random weights and says nothing
model = timm.create_model('{source}', pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)  # of an RGB PIL image
logits = model(transform(image).unsqueeze(0))
```

Or back in OpenMMLab's layout: `mmtlalign convert hf:FOLDER out.pth`.

## Training

- Data: {data}
- Recipe: {recipe}
- Length: {length}; seed {seed}; weights of the {weights}
- With: {versions}

## Results

{results}

## Limits

- Tested on nothing but what stands above, and not for fairness, safety, or images that differ
  from the training data. It always answers with one of its {num_classes} classes.
- One training of one seed: another seed may do better or worse by more than the interval.
- timm's own evaluation resizes by another library than the training did; figures may differ in
  the last digits.

## Licence

{license}, for the weights. The training data have terms of their own.

## Citation

```bibtex
@inproceedings{{xiao2023tlalign,
  title={{Token-Label Alignment for Vision Transformers}},
  author={{Xiao, Han and Zheng, Wenzhao and Zhu, Zheng and Zhou, Jie and Lu, Jiwen}},
  booktitle={{ICCV}},
  year={{2023}}
}}
```
"""


def read_interval(path: str) -> dict:
    """A figure and its interval, of ``mmtlalign test --bootstrap``.

    Raises:
        UserError: If the file is none of that command.
    """
    try:
        found = json.loads(Path(path).read_text())
        return {key: found[key] for key in ('metric', 'figure', 'interval', 'num_images')}
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"'{path}' is not what `mmtlalign test --bootstrap` writes; give such a file"
        ) from None


def write_card(
    info: dict, cfg: Config, model_args: dict, source: str, license: str, interval: dict | None
) -> str:
    """The text of a model card, from the record of a training.

    Args:
        info (dict): As published beside the weights.
        cfg (Config): Of the training.
        model_args (dict): Of timm's model.
        source (str): What ``timm.create_model`` is to be called with.
        license (str): Of the weights, by SPDX's name.
        interval (dict, optional): What ``mmtlalign test --bootstrap`` wrote.
    """
    recipe = [f'`{info["command"]}`', info.get('beyond_command', '')]
    size = 'x'.join(map(str, model_args['img_size']))
    return CARD.format(
        name=info['name'],
        what=f'A {cfg.model.backbone.type.split(".")[-1]} for {size} px images, trained with '
        f'mmtlalign: `{cfg.model.type}`, mixing by {tell_mixing(cfg)}.',
        source=source,
        license=license,
        data=tell_data(cfg),
        recipe='; but for '.join(filter(None, recipe)),
        length=f'{info.get("epoch")} epochs, {info.get("iter")} steps',
        seed=info.get('seed'),
        weights=info.get('weights', 'last step'),
        versions=', '.join(f'{key} {value}' for key, value in info['versions'].items() if value),
        results=tell_results(info.get('metrics') or {}, interval),
        num_classes=model_args['num_classes'],
    )


def tell_mixing(cfg: Config) -> str:
    """The kinds of mixing of a config, or 'nothing'."""
    augments = (cfg.model.get('train_cfg') or {}).get('augments') or []
    augments = [augments] if isinstance(augments, dict) else augments
    return ', '.join(f'`{augment["type"]}`' for augment in augments) or 'nothing'


def tell_data(cfg: Config) -> str:
    """The innermost data set of a training, in a line."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    told = [
        f'{key} `{dataset[key]}`'
        for key in ('data_root', 'ann_file', 'data_prefix', 'split', 'num_samples')
        if dataset.get(key)
    ]
    return ', '.join([f'`{dataset.get("type", "not in the config")}`', *told])


def tell_results(metrics: dict, interval: dict | None) -> str:
    """Figures in a table, and how far one of them can be relied on."""
    if not metrics and not interval:
        return 'None were recorded: `mmtlalign test CONFIG CHECKPOINT` gives them.'
    rows = {
        key: f'{value:.2f}' if isinstance(value, float) else value for key, value in metrics.items()
    }
    if interval:
        low, high = interval['interval']
        rows[interval['metric']] = (
            f'{interval["figure"]:.2f} (95 % interval {low:.2f} to {high:.2f}, bootstrap over '
            f'{interval["num_images"]} test images)'
        )
    table = [f'| {key} | {value} |' for key, value in rows.items()]
    return '\n'.join(['| metric | value |', '|---|---|', *table])
