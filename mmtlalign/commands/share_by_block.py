"""How far shares have moved from the area, block by block, and whereto.

Mixes the config's test images as its training does, in random order, traces
them, and draws two figures of the share, that of the class token where the
head reads it, of all tokens together where it averages them:

- the mean of |share - lam| over images;
- its correlation, at equal lam, with the model's own answer, the probability
  of the image's label over that of both labels. Shares that follow what is to
  be seen rather than its area have a positive one; that of shares that move at
  random lies within two standard errors, 1/sqrt(pairs) each, of zero.

    mmtlalign share-by-block CONFIG CHECKPOINT...
"""
import argparse
import json
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import get_model
from mmtlalign.commands.checks import check_data
from mmtlalign.commands.command_line import (
    add_cfg_options,
    add_trust_argument,
    check_file,
    make_folder_of,
    new_parser,
)
from mmtlalign.errors import UserError
from mmtlalign.models import TLAlignClassifier
from mmtlalign.resources import check_class, open_config

matplotlib.use('Agg')  # a picture in a file needs no display


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config of a TLAlignClassifier')
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument(
        '--labels', nargs='+', help='their names in the picture (default: the '
        'folders that they are in, and the files too where one holds more)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of order and mixes')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--out', default='share_by_block.json',
                        help='.json to write; a .png goes beside it')
    add_cfg_options(parser)
    add_trust_argument(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What is given, if it fits together."""
    parser = make_parser()
    args = parser.parse_args(argv)
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
    files = [Path(path).resolve() for path in paths]
    folders = Counter(file.parent.name for file in files)
    labels = labels or [
        file.parent.name + f'/{file.stem}' * (folders[file.parent.name] > 1)
        for file in files]
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UserError(f"label '{label}' stands for {count} checkpoints; "
                        'tell them apart with --labels')
    return labels


@torch.no_grad()
def collect(model, loader) -> tuple[Tensor, Tensor, Tensor]:
    """Shares before the first block and after each, lam, and the answer.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (1 + blocks, N), (N, ) and (N, ), all
        from 0 to 1; answers are NaN where both labels are the same.
    """
    trace = LabelTrace(model.backbone, record=True)
    shares, lams, answers = [], [], []
    for batch in track(loader, 'test images', total=len(loader),
                       console=Console(stderr=True)):
        data = model.data_preprocessor(batch, training=True)
        mix = data['mix']
        with trace(mix.token_share):
            logits = model(data['inputs'])
        own = torch.stack([
            sample.gt_score for sample in data['data_samples']]).cpu()
        between = own - own[mix.partner]
        answer = (logits.cpu() * between).sum(1).sigmoid()
        shares.append(torch.stack(
            [mix.token_share.mean((1, 2)).to(logits.device),
             *map(trace.read, trace.block_shares)]).cpu())
        lams.append(mix.lam)
        answers.append(answer.where(between.any(1), torch.nan))
    return torch.cat(shares, 1), torch.cat(lams), torch.cat(answers)


def correlate(shares: np.ndarray, lam: np.ndarray,
              answer: np.ndarray) -> list[float]:
    """Of the shares after every block with the answer, at equal lam.

    What a cubic polynomial of lam explains is taken off both.
    """
    cubic = np.vander(lam, 4)

    def rest(values):
        return values - cubic @ np.linalg.lstsq(cubic, values, rcond=None)[0]

    return [float(np.corrcoef(rest(share), rest(answer))[0, 1])
            for share in shares[1:]]


def summarize(shares: Tensor, lam: Tensor, answer: Tensor) -> dict:
    """What is written down of one checkpoint.

    Raises:
        UserError: If no image was mixed with one of another label.
    """
    pairs = ~answer.isnan()
    if not pairs.any():
        raise UserError('no test image was mixed with one of another label; '
                        'raise test_dataloader.batch_size in the config')
    return dict(
        mean_abs_difference=(shares - lam).abs().mean(1).tolist(),
        correlation=correlate(*(
            values[..., pairs].double().numpy()
            for values in (shares, lam, answer))),
        pairs=int(pairs.sum()))


def draw(result: dict, path: Path) -> None:
    """A line per checkpoint in each of two panels."""
    figure, (distance, direction) = plt.subplots(
        1, 2, figsize=(10, 3.6), layout='constrained')
    for label, values in result['checkpoints'].items():
        distance.plot(values['mean_abs_difference'], marker='o', label=label)
        direction.plot(range(1, 1 + len(values['correlation'])),
                       values['correlation'], marker='o')
    noise = 2 / min(values['pairs']
                    for values in result['checkpoints'].values()) ** .5
    direction.axhspan(-noise, noise, color='0.9', zorder=0,
                      label='two standard errors of none')
    distance.set(xlabel='block', ylabel='mean |share - lam|', ylim=(0, None))
    direction.set(xlabel='block', xlim=distance.get_xlim(),
                  ylabel="correlation with the model's answer")
    for axes in (distance, direction):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(result['config'], fontsize='medium')
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    for path in args.checkpoints:
        check_file(path, 'checkpoint')
    labels = name_checkpoints(args.checkpoints, args.labels)
    make_folder_of(args.out)
    cfg = open_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    check_class(cfg, TLAlignClassifier)
    if not cfg.model.get('train_cfg'):
        raise UserError(f"config '{args.config}' mixes nothing: model.train_"
                        'cfg names no augments')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    check_data(cfg, 'test')
    # in order, partners would have the same label as a rule
    cfg.test_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    result = dict(config=Path(args.config).stem, seed=args.seed,
                  checkpoints={})
    for label, checkpoint in zip(labels, args.checkpoints):
        torch.manual_seed(args.seed)  # what mixes takes its seed when built
        model = get_model(cfg, checkpoint, args.device, trust=args.trust)
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=args.seed)
        result['checkpoints'][label] = values = summarize(
            *collect(model, loader))
        for key in ('mean_abs_difference', 'correlation'):
            print(f'{label} {key}:', *map('{:.4f}'.format, values[key]))
    Path(args.out).write_text(json.dumps(result, indent=1) + '\n')
    picture = Path(args.out).with_suffix('.png')
    draw(result, picture)
    print(f'figures: {args.out}, picture: {picture}')
