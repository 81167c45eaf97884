"""Train units of a confirmation all at once on one GPU, their weights stacked.

    python projects/mini_study/stacked.py REGIME FOLDER SEED...

The recipe is that of tools/train.py: initial weights, batches, mixes and learning rates are taken
from its own loop (stacked_batches.py), and a plain ViT, TL-Align (arXiv 2210.06455, section 3.3),
the projection of contribution and label smoothing are written out for stacked weights. A test
holds these against what the loop trains. All arms of 64 seeds took 251 s on an H200.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mmengine
import numpy as np
import torch
import torch.nn.functional as F
from labels_study import (
    ARMS,
    COMPARED,
    REGIMES,
    ROOT,
    SCREEN_SEEDS,
    UNITS,
    Unit,
    confirm_units,
    store,
)
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from rich.console import Console
from rich.progress import track
from stacked_batches import CHUNK, load_config
from torch import Tensor

from mmtlalign.commands.command_line import new_parser
from mmtlalign.datasets import PlantedDigits
from mmtlalign.errors import UserError, one_line_errors
from mmtlalign.evaluation.robustness import calibration_error

LAYERS, HEADS, PATCH, CLASSES = 4, 4, 4, 10
SMOOTHING, EPS = 0.1, 1e-6
BATCH = 50
ERRORS = Console(stderr=True)


class StackedViT:
    """Models of several arms and seeds, arms first.

    Args:
        weights (dict[str, Tensor]): (seeds, ...) each, by the names of the host's model.
        arms (list[str]): Each begins with these.
    """

    def __init__(self, weights: dict[str, Tensor], arms: list[str], device) -> None:
        self.arms, self.seeds = arms, len(next(iter(weights.values())))
        self.weights = {
            name: w.repeat(len(arms), *[1] * (w.ndim - 1)).to(device).requires_grad_()
            for name, w in weights.items()
        }

    def forward(self, images: Tensor, token_share: Tensor | None = None):
        """Scores (arms, seeds, B, classes) of images (seeds, B, H, W); in training also shares
        (arms, seeds, B) of those arms that trace them, from (seeds, B, rows, cols)."""
        size = images.size(-1) // PATCH
        patches = images.unflatten(-1, (size, PATCH)).unflatten(-3, (size, PATCH))
        patches = patches.transpose(-3, -2).flatten(-2).flatten(2, 3)
        patches = patches.repeat(len(self.arms), 1, 1, 3)  # grey in three channels
        x = self.linear(patches, 'backbone.patch_embed.projection')
        first = self.weights['backbone.cls_token'].expand(-1, x.size(1), -1, -1)
        x = torch.cat([first, x], dim=2) + self.weights['backbone.pos_embed']
        shares: dict[str, Tensor] = {}
        if token_share is not None:
            start = token_share.flatten(2)
            start = torch.cat([start.mean(-1, keepdim=True), start], dim=-1)
            shares = {arm: start for arm in ('tlalign', 'contribution') if arm in self.arms}
        for i in range(LAYERS):
            # of the last layer only the class token is read
            x = self.layer(x, f'backbone.layers.{i}.', shares, 1 if i == LAYERS - 1 else x.size(2))
        scores = self.linear(self.norm(x, 'backbone.ln1'), 'head.layers.head')[:, :, 0]
        shares = {arm: share[..., 0] for arm, share in shares.items()}
        return scores.unflatten(0, (len(self.arms), -1)), shares

    def layer(self, x: Tensor, name: str, shares: dict[str, Tensor], rows: int) -> Tensor:
        """(models, B, N, C) -> (models, B, rows, C); moves shares (seeds, B, N) likewise."""
        given, width = self.norm(x, name + 'ln1'), x.size(-1)
        x = x[:, :, :rows]
        query = self.linear(given[:, :, :rows], name + 'attn.qkv', slice(width))
        query = query.unflatten(-1, (HEADS, -1)).transpose(2, 3)
        both = self.linear(given, name + 'attn.qkv', slice(width, None))
        key, value = both.unflatten(-1, (2, HEADS, -1)).permute(3, 0, 1, 4, 2, 5)
        # the fused kernels take four dimensions
        attended = F.scaled_dot_product_attention(*(t.flatten(0, 1) for t in (query, key, value)))
        attended = attended.unflatten(0, x.shape[:2]).transpose(2, 3).flatten(3)
        branch = self.linear(attended, name + 'attn.proj')
        with torch.no_grad():
            for arm, share in shares.items():
                part = slice(*(self.seeds * (self.arms.index(arm) + k) for k in (0, 1)))
                matrix = query[part] * query.size(-1) ** -0.5 @ key[part].mT
                matrix = matrix.softmax(dim=-1)
                moved = (matrix @ share[:, :, None, :, None]).mean(2)[..., 0]
                if arm == 'tlalign':
                    shares[arm] = (share[..., :rows] + moved) / 2
                else:
                    own = matrix, value[part], share, moved, name + 'attn.proj', part
                    shares[arm] = self.project(x[part], branch[part], *own)
        x = x + branch
        hidden = F.gelu(self.linear(self.norm(x, name + 'ln2'), name + 'ffn.layers.0.0'))
        return x + self.linear(hidden, name + 'ffn.layers.1')

    def project(self, x, branch, matrix, value, share, moved, name, part) -> Tensor:
        """Contribution by projection, with shares centred."""
        mean = share.mean(-1, keepdim=True)
        deviation = share - mean
        carried = (matrix @ (deviation[:, :, None, :, None] * value)).transpose(2, 3).flatten(3)
        own = carried @ self.weights[f'{name}.weight'][part].mT[:, None]
        own = own + (moved - mean)[..., None] * self.weights[f'{name}.bias'][part][:, None, None]
        own = own + deviation[..., : x.size(2), None] * x
        output = x + branch
        return (mean + (own * output).sum(-1) / output.square().sum(-1)).clamp(0, 1)

    def linear(self, x: Tensor, name: str, rows: slice = slice(None)) -> Tensor:
        weight = self.weights[f'{name}.weight'].flatten(2)[:, rows]
        bias = self.weights[f'{name}.bias'][:, None, rows]
        return torch.baddbmm(bias, x.flatten(1, -2), weight.mT).unflatten(1, x.shape[1:-1])

    def norm(self, x: Tensor, name: str) -> Tensor:
        gain, bias = (self.weights[f'{name}.{part}'][:, None, None] for part in ('weight', 'bias'))
        return torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], eps=EPS), gain)

    def loss(self, step: dict[str, Tensor]) -> Tensor:
        """Sum over models of the mean loss of a step's batches."""
        scores, traced = self.forward(step['images'], step['token_share'])
        share = torch.stack([traced.get(arm, step.get(arm)) for arm in self.arms])[..., None]
        own, partner = (F.one_hot(step[name], CLASSES) for name in ('own', 'partner'))
        target = share * own + (1 - share) * partner
        target = target * (1 - SMOOTHING) + SMOOTHING / CLASSES
        return -(target * scores.log_softmax(-1)).sum(-1).mean(-1).sum()


class Chunks:
    """Steps of all seeds, (seeds, ...) each, as their files appear."""

    def __init__(self, folder: Path, seeds: list[int], collector=None) -> None:
        self.folder, self.seeds, self.collector = folder, seeds, collector

    def open(self, name: str) -> list[Path]:
        paths = [self.folder / f'{seed}_{name}' for seed in self.seeds]
        while not all(path.is_file() for path in paths):
            if self.collector and self.collector.poll():
                raise UserError(f'stacked_batches.py failed; remove {self.folder} and try again')
            time.sleep(0.05)
        return paths

    def start(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Initial weights, and how much of each decays."""
        weights, decay = zip(*(torch.load(path) for path in self.open('start')))
        return {name: torch.stack([w[name] for w in weights]) for name in weights[0]}, decay[0]

    def read(self, number: int, device) -> dict[str, Tensor]:
        files = [np.load(path) for path in self.open(str(number))]
        return {
            name: torch.from_numpy(np.stack([file[name] for file in files])).to(device)
            for name in files[0].files
        }

    def steps(self, count: int, device):
        """Learning rate and batches of every step; the next chunk is read meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.read, 0, device)
            for first in range(0, count, CHUNK):
                chunk = coming.result()
                if first + CHUNK < count:
                    coming = pool.submit(self.read, first // CHUNK + 1, device)
                rates = chunk.pop('lr')[0].tolist()
                for i, rate in enumerate(rates[: count - first]):
                    yield rate, {name: values[:, i] for name, values in chunk.items()}


def make_optimizer(model: StackedViT, decay: dict[str, float]) -> torch.optim.AdamW:
    groups: dict[float, list] = {}
    for name, weight in model.weights.items():
        groups.setdefault(decay[name], []).append(weight)
    groups_of = [dict(params=params, weight_decay=rate) for rate, params in groups.items()]
    return torch.optim.AdamW(groups_of, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)


def train(chunks: Chunks, arms: list[str], device, steps: int) -> StackedViT:
    """All models from their start to the last step."""
    weights, decay = chunks.start()
    model = StackedViT(weights, arms, device)
    optimizer = make_optimizer(model, decay)
    for rate, step in track(chunks.steps(steps, device), 'steps', steps, console=ERRORS):
        for group in optimizer.param_groups:
            group['lr'] = rate
        model.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@torch.no_grad()
def evaluate(model: StackedViT, images: Tensor) -> Tensor:
    """Probabilities (arms, seeds, images, classes), in batches."""
    parts = [
        model.forward(part.expand(model.seeds, *part.shape))[0].softmax(-1)
        for part in images.split(100)
    ]
    return torch.cat(parts, dim=2)


def load_images(regime: str, stage: str, device) -> tuple[Tensor, Tensor]:
    """What units are validated on, (images, H, W), normalised, and labels."""
    init_default_scope('mmpretrain')
    cfg = load_config(Unit(stage, regime, 'area', 0))
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    preprocessor = MODELS.build(dict(cfg.data_preprocessor, type='ClsDataPreprocessor'))
    data = preprocessor(pseudo_collate([dataset[i] for i in range(len(dataset))]), False)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    return data['inputs'][:, 0].to(device), labels.to(device)


def keep(unit: Unit, folder: Path, scores: Tensor, labels: Tensor) -> None:
    """The file of a unit, from probabilities (images, classes); in another folder than its own
    where it is of the screen again."""
    confidence, predicted = scores.double().max(-1)
    right = predicted == labels
    top1 = round(100 * right.double().mean().item(), 4)
    own = scores.double().gather(1, labels[:, None]).clamp(min=1e-12)
    store(
        unit,
        folder,
        {REGIMES[unit.regime]['epochs']: top1},
        calibration_error=calibration_error(confidence.cpu(), right.cpu()),
        nll=-own.log().mean().item(),
        trainer='stacked',
    )


def save(unit: Unit, folder: Path, weights: dict[str, Tensor], steps: int) -> None:
    """A checkpoint, as far as testing and publishing read one."""
    cfg = load_config(unit)
    meta = dict(
        cfg=cfg.pretty_text,
        seed=unit.seed,
        epoch=cfg.train_cfg.max_epochs,
        iter=steps,
        time=time.strftime('%Y%m%d_%H%M%S'),
        mmengine_version=mmengine.__version__,
        dataset_meta=PlantedDigits.METAINFO,
    )
    torch.save(dict(meta=meta, state_dict=weights), folder / f'{unit.name}.pth')


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument('regime', choices=REGIMES)
    parser.add_argument('folder', type=Path, help='of batches, and of the screen trained again')
    parser.add_argument('seeds', type=int, nargs='+', help='of the screen, too')
    parser.add_argument('--weights', type=int, nargs='*', default=[], help='keep those of seeds')
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    # whose batches would be taken for this run's, and whose figures be lost
    units = confirm_units(args.regime, ARMS, args.seeds)
    for path in (args.folder, *(unit.file for unit in units)):
        if path.exists():
            raise UserError(f"'{path}' is of another run; name a new folder, and other seeds")
    args.folder.mkdir(parents=True)
    command = ['nice', sys.executable, Path(__file__).with_name('stacked_batches.py')]
    command += [args.regime, args.folder, *map(str, args.seeds)]
    collector = subprocess.Popen(command, cwd=ROOT, env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    held_out = {stage: load_images(args.regime, stage, device) for stage in ('screen', 'confirm')}
    chunks = Chunks(args.folder, args.seeds, collector)
    regime = REGIMES[args.regime]
    steps = regime['epochs'] * regime['images'] // BATCH
    try:
        model = train(chunks, list(ARMS), device, steps)
    finally:  # whatever happens, no process of it stays
        collector.terminate()
    for stage, (images, labels) in held_out.items():
        for arm, found in zip(model.arms, evaluate(model, images)):
            for seed, scores in zip(args.seeds, found):
                unit = Unit(stage, args.regime, arm, seed)
                # the screen's seeds are a check of this against its units
                if stage == 'confirm' and seed not in SCREEN_SEEDS:
                    keep(unit, UNITS, scores, labels)
                elif stage == 'screen' and seed in SCREEN_SEEDS and arm not in COMPARED:
                    keep(unit, args.folder, scores, labels)
    for seed in args.weights:
        for k, arm in enumerate(model.arms):
            index = k * model.seeds + args.seeds.index(seed)
            weights = {name: w.detach()[index].cpu().clone() for name, w in model.weights.items()}
            save(Unit('confirm', args.regime, arm, seed), args.folder, weights, steps)


if __name__ == '__main__':
    with one_line_errors('stacked.py'):
        main()
