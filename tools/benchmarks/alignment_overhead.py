"""What alignment costs: time and memory of a training step, as ratios.

Every round times each variant once, in an order that rotates from round to
round; ratios to the stock step are taken within a round, so that a machine
that slows down for a while slows both sides. What is judged is the median
ratio less that of the null (stock over stock), over all rounds of all runs,
by the processor time of the process, which does not count what others take (a
GPU's work it does not count either: judge the wall there). For that time to
be work and not waiting, let idle threads sleep:

    OMP_WAIT_POLICY=PASSIVE python tools/benchmarks/alignment_overhead.py
    ... --family pcpvt beit --propagation tlalign
    ... --family deit-s-224 --propagation tlalign contribution --watch class

Under torchrun (on CPUs; judge the wall), the steps are those of one of several
processes: what they cost there, over what they cost in one, is what alignment
loses of the efficiency of its baseline.
"""

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track
from torch import nn

from mmtlalign.alignment import LabelTrace

MMPRETRAIN, MMDET, MMSEG = (f'{host}.models' for host in ('mmpretrain', 'mmdet', 'mmseg'))
SWIN_T = dict(arch='tiny', drop_path_rate=0.0)
SWIN_V2_T = dict(SWIN_T, img_size=256, window_size=8)
PVT_T = dict(num_layers=[2, 2, 2, 2], num_heads=[1, 2, 5, 8], drop_path_rate=0.0)
T2T_14 = dict(num_layers=14, embed_dims=384, t2t_cfg=dict(token_dims=64, use_performer=False))
T2T_14['layer_cfgs'] = dict(num_heads=6, feedforward_channels=1152)
SAM_S = dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)
SAM_S = dict(arch=dict(SAM_S, global_attn_indexes=[5, 11]), img_size=384)
XCIT_S = dict(patch_size=16, embed_dims=384, depth=12, num_heads=8)


def deit_s(size: int, batch: int) -> tuple:
    return MMPRETRAIN, 'VisionTransformer', dict(arch='deit-small', img_size=size), size, 16, batch


# name: (module, class, arguments, pixels, patch edge, batch)
CASES = {
    'deit-s-224': deit_s(224, 4),
    'deit-s-384': deit_s(384, 2),
    'deit-s-512': deit_s(512, 1),
    'swin-t-224': (MMPRETRAIN, 'SwinTransformer', SWIN_T, 224, 4, 2),
    'swinv2-t': (MMPRETRAIN, 'SwinTransformerV2', SWIN_V2_T, 256, 4, 2),
    'beit': (MMPRETRAIN, 'BEiTViT', dict(arch='deit-small'), 224, 16, 4),
    'eva02': (MMPRETRAIN, 'ViTEVA02', dict(arch='t', img_size=224, patch_size=14), 224, 14, 4),
    'hivit': (MMPRETRAIN, 'HiViT', dict(arch='tiny'), 224, 16, 2),
    'pcpvt': (MMPRETRAIN, 'PCPVT', dict(arch='small'), 224, 4, 4),
    'svt': (MMPRETRAIN, 'SVT', dict(arch='small'), 224, 4, 4),
    'mvit': (MMPRETRAIN, 'MViT', dict(arch='tiny'), 224, 4, 2),
    'levit': (MMPRETRAIN, 'LeViT', dict(arch='256'), 224, 16, 8),
    't2t': (MMPRETRAIN, 'T2T_ViT', T2T_14, 224, 4, 2),
    'davit': (MMPRETRAIN, 'DaViT', dict(arch='tiny'), 224, 4, 2),
    'sam': (MMPRETRAIN, 'ViTSAM', SAM_S, 384, 16, 2),
    'xcit': (MMPRETRAIN, 'XCiT', XCIT_S, 224, 16, 4),
    'poolformer': (MMPRETRAIN, 'PoolFormer', dict(arch='s12'), 224, 4, 4),
    'pvt': (MMDET, 'PyramidVisionTransformer', PVT_T, 224, 4, 4),
    'pvtv2': (MMDET, 'PyramidVisionTransformerV2', dict(PVT_T, embed_dims=32), 224, 4, 4),
    'mit': (MMSEG, 'MixVisionTransformer', dict(PVT_T, embed_dims=32), 224, 4, 4),
    'timm-vit': ('timm.models', 'deit_small_patch16_224', {}, 224, 16, 8),
    'timm-swin': ('timm.models', 'swin_tiny_patch4_window7_224', {}, 224, 4, 4),
    'torchvision-vit': ('torchvision.models', 'vit_b_16', {}, 224, 16, 2),
}
STANDARD = ('deit-s-224', 'deit-s-384', 'deit-s-512', 'swin-t-224')
STOCK, NULL = 'stock', 'null'


class TrainingStep:
    """Forward, loss, backward and AdamW of a backbone with a linear head.

    Args:
        case (str): A key of :data:`CASES`.
        args (argparse.Namespace): ``device``, ``bf16``, ``propagation``, ``watch``.
    """

    def __init__(self, case: str, args) -> None:
        module, name, cfg, size, patch, batch = CASES[case]
        batch = args.batch or batch
        torch.manual_seed(0)
        self.device, self.bf16 = torch.device(args.device), args.bf16
        self.backbone = getattr(import_module(module), name)(**cfg)
        self.backbone.to(self.device).train()
        self.model: nn.Module = self.backbone
        if dist.is_initialized():
            self.model = nn.parallel.DistributedDataParallel(self.backbone)
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        # Of the features, not of the backbone: some hosts keep no width.
        with torch.no_grad():
            width = self._pooled().size(1)
        self.head = nn.Linear(width, args.num_classes, device=self.device)
        self.scores = torch.eye(args.num_classes, device=self.device)[:batch]
        self.params = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-6)
        grid = size // patch
        self.token_share = torch.ones(batch, grid, grid)
        self.token_share[:, grid // 4 : -grid // 4, grid // 5 : -grid // 5] = 0
        self.traces = {
            name: LabelTrace(self.backbone, propagation=name) for name in args.propagation
        }
        if args.watch:
            self.traces[f'watch={args.watch}'] = LabelTrace(self.backbone, watch=args.watch)

    def _pooled(self) -> torch.Tensor:
        """Features (B, C) of the last output, whatever its shape."""
        feats = self.model(self.images)
        while isinstance(feats, (tuple, list)):
            feats = feats[-1]
        if feats.ndim == 3:
            return feats.mean(dim=1)
        return feats.flatten(2).mean(dim=2) if feats.ndim == 4 else feats

    def loss(self, variant: str) -> torch.Tensor:
        """Loss of one variant: stock, null, or a name of ``traces``."""
        trace = self.traces.get(variant)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            if trace is None:
                lam = self.token_share.mean((1, 2))
                feat, share = self._pooled(), lam.to(self.device)
            else:
                with trace(self.token_share):
                    feat = self._pooled()
                share = trace.output_share
            log_prob = self.head(feat).float().log_softmax(-1)
        share = share[:, None]
        target = share * self.scores + (1 - share) * self.scores.flip(0)
        return -(target * log_prob).sum(-1).mean()

    def run(self, variant: str) -> np.ndarray:
        """Seconds of one whole training step: wall, processor."""
        self._synchronize()
        start = clocks()
        loss = self.loss(variant)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._synchronize()
        return clocks() - start

    def bytes_kept(self, variant: str) -> int:
        """Bytes of unique storages kept for the backward, parameters excluded."""
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = self.loss(variant)
        for param in self.params:
            storages.pop(param.untyped_storage().data_ptr(), None)
        del loss
        return sum(storages.values())

    def _synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def clocks() -> np.ndarray:
    """Seconds on the wall and of all threads of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(case: str, args) -> tuple[dict, dict]:
    """Ratios to stock of each variant, (rounds, clock), and of the bytes
    kept; one fresh model a run."""
    runs = []
    for run in range(args.runs):
        step = TrainingStep(case, args)
        variants = [STOCK, NULL, *step.traces]
        steps = {variant: lambda _, v=variant: step.run(v) for variant in variants}
        runs.append(interleave(steps, args.rounds, f'{case}, run {run + 1}'))
        stock = step.bytes_kept(STOCK)
        memory = {v: step.bytes_kept(v) / stock for v in variants[1:]}
    ratios = {v: np.concatenate([run[v] / run[STOCK] for run in runs]) for v in variants[1:]}
    return ratios, memory


def interleave(variants: dict[str, Callable], rounds: int, what: str) -> dict[str, np.ndarray]:
    """Seconds of each variant, (rounds, clock), once it has been run.

    Args:
        variants (dict[str, Callable]): Each takes the number of the round and
            returns seconds by clock; every round begins with another one.
        rounds (int): How many.
        what (str): Beside the bar.
    """
    names = list(variants)
    seconds: dict[str, list] = {name: [] for name in names}
    for name in names:
        variants[name](0)
    for i in track(range(rounds), what, console=Console(stderr=True)):
        for k in range(len(names)):
            name = names[(i + k) % len(names)]
            seconds[name].append(variants[name](i))
    return {name: np.array(values) for name, values in seconds.items()}


def report(case: str, ratios: dict[str, np.ndarray], last: dict[str, float]) -> None:
    """Rows of a Markdown table; the last column before the cost is given."""
    null = np.median(ratios[NULL], axis=0)
    for variant, found in ratios.items():
        low, mid, high = np.percentile(found, [25, 50, 75], axis=0)
        times = ' | '.join(f'{m:.3f} ({a:.3f} to {b:.3f})' for a, m, b in zip(low, mid, high))
        cost = '' if variant == NULL else ' / '.join(f'{1 + m - n:.3f}' for m, n in zip(mid, null))
        print(f'| {case} | {variant} | {times} | {last[variant]:.3f} | {cost} |', flush=True)


def report_seconds(case: str, seconds: dict[str, np.ndarray]) -> None:
    """Rows of a table whose last column is the stock's wall time, in ms."""
    stock = seconds.pop(STOCK)
    ratios = {name: values / stock for name, values in seconds.items()}
    report(case, ratios, dict.fromkeys(ratios, 1e3 * np.median(stock[:, 0])))


def print_head(about: str, last: str, device: str = 'cpu', threads: int = 1) -> None:
    """The machine, and the head of the table."""
    cpu = f'{processor()}, {threads} threads'
    machine = cpu if device == 'cpu' else torch.cuda.get_device_name()
    print(
        f'{machine}; torch {torch.__version__}, {about}; null = {STOCK} again; cost = median '
        'less that of the null, wall / processor\n\n| case | variant | wall time (quartiles) | '
        f'processor time (quartiles) | {last} | cost |\n|---|---|---|---|---|---|'
    )


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--family',
        nargs='+',
        default=list(STANDARD),
        choices=list(CASES),
        metavar='CASE',
        help=f'of {", ".join(CASES)}',
    )
    parser.add_argument('--propagation', nargs='+', default=['tlalign'])
    parser.add_argument(
        '--watch', choices=['class', 'patches'], help='also TL-Align with a watched last block'
    )
    parser.add_argument('--rounds', type=int, default=15, help='interleaved rounds of a run')
    parser.add_argument('--runs', type=int, default=2)
    parser.add_argument('--batch', type=int, default=0, help="images of a step (0: the case's own)")
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--bf16', action='store_true', help='autocast to bfloat16')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--num-classes', type=int, default=1000)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if 'WORLD_SIZE' in os.environ:
        dist.init_process_group('gloo')
        if dist.get_rank():
            sys.stdout = sys.stderr = open(os.devnull, 'w')
    about = (
        f'{"bfloat16 autocast" if args.bf16 else "float32"}, {args.num_classes} classes, '
        f'{args.runs} x {args.rounds} rounds; ratios to the stock step'
    )
    print_head(about, 'bytes kept', args.device, args.threads)
    for case in args.family:
        report(case, *measure(case, args))


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == '__main__':
    main()
