"""How far shares have moved from the area, block by block.

Mixes the config's test images as its training does, traces them, and draws
the mean of |share - lam| over images: of the class token where the head reads
it, of all tokens together where it averages them.

    python tools/analysis_tools/share_by_block.py CONFIG CHECKPOINT...
"""
import argparse
import json
from collections import Counter
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track

from mmtlalign.utils import (
    UserError,
    add_trust_argument,
    check_data,
    check_file,
    find_config,
    one_line_errors,
    silence_known_noise,
)
from mmtlalign.utils.command_line import make_folder_of

silence_known_noise()
matplotlib.use('Agg')  # a picture in a file needs no display
from matplotlib import pyplot as plt  # noqa: E402

from mmtlalign.alignment import LabelTrace  # noqa: E402
from mmtlalign.apis import get_model  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of a TLAlignClassifier')
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument(
        '--labels', nargs='+', help='their names in the picture (default: the '
        'folders that they are in, and the files too where one holds more)')
    parser.add_argument('--seed', type=int, default=0, help='of the mixes')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--out', default='share_by_block.json',
                        help='.json to write; a .png goes beside it')
    add_trust_argument(parser)
    args = parser.parse_args()
    if not args.out.endswith('.json'):
        parser.error(f"--out '{args.out}' must end in .json")
    if args.labels and len(args.labels) != len(args.checkpoints):
        parser.error(f'--labels names {len(args.labels)} of '
                     f'{len(args.checkpoints)} checkpoints')
    return args


def name_checkpoints(paths: list[str], labels: list[str] | None) -> list[str]:
    """A label for each, by which results are kept.

    Raises:
        UserError: If two are the same.
    """
    paths = [Path(path).resolve() for path in paths]
    folders = Counter(path.parent.name for path in paths)
    labels = labels or [
        path.parent.name + f'/{path.stem}' * (folders[path.parent.name] > 1)
        for path in paths]
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UserError(f"label '{label}' stands for {count} checkpoints; "
                        'tell them apart with --labels')
    return labels


@torch.no_grad()
def measure(model, loader) -> list[float]:
    """Mean |share - lam| before the first block and after each."""
    trace = LabelTrace(model.backbone, record=True)
    total, count = 0, 0
    for batch in track(loader, 'test images', total=len(loader),
                       console=Console(stderr=True)):
        data = model.data_preprocessor(batch, training=True)
        samples = data['data_samples']
        share = torch.stack([sample.token_share for sample in samples])
        lam = torch.stack([sample.lam for sample in samples]).to(share)
        with trace(share):
            model.backbone(data['inputs'])
        read = [share.mean((1, 2)), *map(trace.read, trace.block_shares)]
        total = total + torch.stack(
            [(value - lam).abs().sum() for value in read])
        count += len(samples)
    return (total / count).tolist()


def draw(result: dict, path: Path) -> None:
    """A line per checkpoint."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for label, values in result['mean_abs_difference'].items():
        axes.plot(values, marker='o', label=label)
    axes.set(xlabel='block', ylabel='mean |share - lam|', ylim=(0, None))
    axes.set_title(result['config'], fontsize='medium')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    args = parse_args()
    for path in (args.config, *args.checkpoints):
        check_file(path, 'file')
    labels = name_checkpoints(args.checkpoints, args.labels)
    make_folder_of(args.out)
    cfg = Config.fromfile(find_config(args.config))
    if not cfg.get('model', {}).get('train_cfg'):
        raise UserError(f"config '{args.config}' mixes nothing: model.train_"
                        'cfg names no augments')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    check_data(cfg, 'test')
    loader = Runner.build_dataloader(cfg.test_dataloader)
    result = dict(config=Path(args.config).stem, seed=args.seed,
                  mean_abs_difference={})
    for label, checkpoint in zip(labels, args.checkpoints):
        torch.manual_seed(args.seed)  # what mixes takes its seed when built
        model = get_model(cfg, checkpoint, args.device, trust=args.trust)
        result['mean_abs_difference'][label] = values = measure(model, loader)
        print(f'{label}: ' + ' '.join(f'{value:.4f}' for value in values))
    Path(args.out).write_text(json.dumps(result, indent=1) + '\n')
    picture = Path(args.out).with_suffix('.png')
    draw(result, picture)
    print(f'figures: {args.out}, picture: {picture}')


if __name__ == '__main__':
    with one_line_errors('share_by_block.py'):
        main()
