"""The README of a published folder, which hubs show as the model's page."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from mmengine.config import Config

from mmtlalign.errors import UserError


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
    augments = (cfg.model.get('train_cfg') or {}).get('augments') or []
    augments = [augments] if isinstance(augments, dict) else augments
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    figures = dict(info.get('metrics') or {})
    if interval:
        low, high = interval['interval']
        figures[interval['metric']] = (
            f'{interval["figure"]:.2f} (95 % interval {low:.2f} to {high:.2f}, bootstrap over '
            f'{interval["num_images"]} test images)'
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template('model_card.md.j2').render(
        info=info,
        cfg=cfg,
        size='x'.join(map(str, model_args['img_size'])),
        mixing=', '.join(f'`{augment["type"]}`' for augment in augments) or 'nothing',
        source=source,
        license=license,
        dataset=dataset,
        versions=', '.join(f'{key} {value}' for key, value in info['versions'].items() if value),
        figures=figures,
        num_classes=model_args['num_classes'],
    )
