"""Which share is truest? Propagations, and variants of them, on the study's own models.

    python projects/mini_study/share_variants.py CHECKPOINT... --out propagations.json

Checkpoints are those of confirmation units, three seeds of each arm or more. Shares are measured
as by ``mmtlalign fidelity``, on the validation digits, and the rule of docs/faithfulness.md is
applied: of the propagations whose correlation with the truth within equal area is at least
TL-Align's less .08, the one with the smallest distance. Variants are computed the slow way, from
the attention matrices of a plain ViT:

- *token pairs*: contribution by projection, each pair of tokens cut at zero by itself;
- *branch norms*: TL-Align, the own weight |x| / (|x| + |branch|) in place of one half;
- *vector weights*: weights by the norm of what a token adds to another, residual included;
- *two vectors*: both images' parts carried through the whole network with its statistics and
  gates, an upper bound on what one number a token can tell.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from rich.progress import track
from study_report import head, row
from torch import Tensor
from trainings import ROOT

from mmtlalign.apis import get_model
from mmtlalign.commands.command_line import new_parser
from mmtlalign.errors import one_line_errors
from mmtlalign.evaluation.fidelity import Fidelity, draw_pairs, join, summarize

CONFIG = 'configs/classification/planted/cutmix_deit-micro_1xb50-150e_planted-8in24px.py'
VARIANTS = ('token pairs', 'branch norms', 'vector weights', 'two vectors')
PROPAGATIONS = ('tlalign', 'contribution', 'contribution-norm', *VARIANTS[:3])
MARGIN = 0.08


class WithVariants(Fidelity):
    """Of a plain ViT, all shares that it offers, and the variants."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.names += VARIANTS
        self.traces |= dict.fromkeys(VARIANTS)
        self.seen = watch(model.backbone)

    def _shares(self, mixes):
        shares, feats = super()._shares(mixes)
        # the class token, which the head reads, belongs to neither
        share = torch.cat([mixes.record.lam[:, None], mixes.record.token_share.flatten(1)], 1)
        last = propagate(self.seen, share, self.model.backbone)
        return shares | {name: value[None] for name, value in last.items()}, feats


def watch(backbone) -> list[dict]:
    """Input and output of modules of every layer, those of the last forward."""
    layers = []
    for layer in backbone.layers:
        seen: dict = dict(layer=layer)
        layers.append(seen)
        for key, module in (('ln1', layer.ln1), ('qkv', layer.attn.qkv), ('ln2', layer.ln2)):
            module.register_forward_hook(
                lambda _, given, out, key=key, seen=seen: seen.update({key: (given[0], out)})
            )
    return layers


def propagate(seen: list[dict], share: Tensor, backbone) -> dict[str, Tensor]:
    """Shares (N,) of the class token after the last layer, by each of the variants."""
    moved = dict.fromkeys(VARIANTS[:3], share)
    tokens = seen[0]['ln1'][0]
    patches = F.pad(torch.ones_like(share[:, 1:]), (1, 0))
    parts = torch.stack([share * patches, (1 - share) * patches])[..., None] * tokens
    for inputs in seen:
        layer, (x, _), (y, _) = inputs['layer'], inputs['ln1'], inputs['ln2']
        attn, heads = layer.attn, layer.attn.num_heads
        query, key, value = inputs['qkv'][1].unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        matrix = (query @ key.mT * query.size(-1) ** -0.5).softmax(-1)
        weight = attn.proj.weight.unflatten(1, (heads, -1))
        added = torch.einsum('bhjd,ohd,bhij->bijo', value, weight, matrix)
        added = added + torch.diag_embed(x.mT).movedim(1, -1)  # the residual, from itself
        rows = {
            'token pairs': torch.einsum('bijo,bio->bij', added, y).clamp(min=0),
            'vector weights': added.norm(dim=-1),
        }
        for name, weights in rows.items():
            moved[name] = (F.normalize(weights, 1, dim=-1) @ moved[name][..., None])[..., 0]
        own, branch = x.norm(dim=-1), (y - x).norm(dim=-1)
        own, old = own / (own + branch), moved['branch norms']
        moved['branch norms'] = own * old + (1 - own) * (matrix.mean(1) @ old[..., None])[..., 0]
        parts = through(layer, parts, x, y, matrix, value)
    found = {name: value[:, 0] for name, value in moved.items()}
    final = layer.ffn(layer.ln2(y), identity=y)
    read = backbone.ln1(final)[:, 0]
    own, other = (normed(backbone.ln1, final, parts)[:, :, 0] * read).sum(-1).clamp(min=0)
    found['two vectors'] = own / (own + other).clamp(min=1e-6)
    return found


def through(layer, parts: Tensor, x: Tensor, y: Tensor, matrix: Tensor, value: Tensor) -> Tensor:
    """Parts (2, B, N, C) of ``x`` after a layer; biases belong to neither image."""
    attn, (rise, fall) = layer.attn, (layer.ffn.layers[0][0], layer.ffn.layers[1])
    gain = attn.qkv.weight.chunk(3)[2]
    values = normed(layer.ln1, x, parts) @ gain.T
    values = values.unflatten(-1, (value.size(1), -1)).transpose(2, 3)
    parts = parts + (matrix @ values).transpose(2, 3).flatten(3) @ attn.proj.weight.T
    hidden = rise(layer.ln2(y))
    gate = F.gelu(hidden) / hidden.where(hidden.abs() > 1e-6, torch.ones(()))
    return parts + normed(layer.ln2, y, parts) @ rise.weight.T * gate @ fall.weight.T


def normed(norm, whole: Tensor, part: Tensor) -> Tensor:
    """A part under the statistics of the whole, without the bias."""
    spread = (whole.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return (part - part.mean(-1, keepdim=True)) / spread * norm.weight


def measure(checkpoint: str, mixes: int) -> dict:
    """share -> reference -> correlation within equal area and distance, after the last block."""
    cfg = Config.fromfile(ROOT / CONFIG)
    fidelity = WithVariants(get_model(cfg, checkpoint).eval())
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]
    generator = torch.Generator().manual_seed(0)
    pairs = draw_pairs(labels, fidelity.grid_of(dataset), mixes, generator)
    measured = join(list(fidelity.measure(dataset, pairs)))
    summary = summarize(measured, draws=1)
    return {
        share: {
            reference: [values[what][-1][0] for what in ('correlation', 'distance')]
            for reference, values in found.items()
            if reference != 'movement'
        }
        for share, found in summary.items()
    }


def choose(found: dict[str, np.ndarray]) -> str:
    """By the rule, of (correlation, distance) of every propagation with the truth."""
    limit = found['tlalign'][0] - MARGIN
    return min((name for name in found if found[name][0] >= limit), key=lambda n: found[n][1])


def table(results: dict[str, dict]) -> str:
    """Means over checkpoints, with their standard deviation."""
    references = ('truth', 'answer', 'ablation')
    names = [f'{name}: {what}' for name in references for what in ('correlation', 'distance')]
    lines = [head('share', *names)]
    for share in next(iter(results.values())):
        cells = []
        for name in references:
            values = [found[share][name] for found in results.values() if name in found[share]]
            cells += [f'{np.mean(x):.3f} ± {np.std(x, ddof=1):.3f}' for x in zip(*values)] or [
                '',
                '',
            ]
        lines.append(row(share, *cells))
    truth = {
        name: np.mean([found[name]['truth'] for found in results.values()], axis=0)
        for name in PROPAGATIONS
    }
    return '\n'.join([*lines, '', f'By the rule: **{choose(truth)}**.'])


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument('--mixes', type=int, default=5000)
    parser.add_argument('--out', type=Path, help='keep the figures of every checkpoint')
    args = parser.parse_args()
    results = {
        Path(checkpoint).stem: measure(checkpoint, args.mixes)
        for checkpoint in track(args.checkpoints, 'checkpoints')
    }
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + '\n')
    print(table(results))


if __name__ == '__main__':
    with one_line_errors('share_variants.py'):
        main()
