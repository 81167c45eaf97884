"""What alignment costs: time and memory of a training step, as ratios.

Every round times each variant once, in an order that rotates from round to
round; ratios are taken within a round, so that a machine that slows down for
a while slows both sides. The null ratio (stock over stock) says what the
machine's noise alone can do: where its quartiles leave the margin, the
verdict is "too noisy" and neither pass nor fail. Wall time is judged first;
where it is too noisy, the processor time of the process is, which does not
count what others take (a GPU's work it does not count either). For that time
to be work and not waiting, let idle threads sleep:

    OMP_WAIT_POLICY=PASSIVE python tools/benchmarks/alignment_overhead.py
"""
import argparse
import contextlib
import platform
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer
from rich.console import Console
from rich.progress import track
from torch import nn

from mmtlalign.alignment import LabelTrace, attention
from mmtlalign.models import TokenCutMix

# The dense oracle is a test helper, timed here as the competitor.
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.oracle import dense_step  # noqa: E402

CASES = {
    'deit-s-224': ('deit-small', 224, 8),
    'deit-s-384': ('deit-small', 384, 4),
    'deit-s-512': ('deit-small', 512, 2),
    'swin-t-224': ('swin-tiny', 224, 4),
}
PATHS = dict(
    aligned=None,
    padded=attention.padded_share_attention,
    separate=attention.separate_share_attention)
MARGIN = 0.02


class TrainingStep:
    """Forward, loss, backward and AdamW of a backbone with a linear head.

    Args:
        case (str): A key of :data:`CASES`.
        args (argparse.Namespace): ``device``, ``bf16``, ``num_classes``,
            ``depth``.
    """

    def __init__(self, case: str, args) -> None:
        arch, size, batch = CASES[case]
        torch.manual_seed(0)
        self.is_swin = arch.startswith('swin')
        self.device, self.bf16 = torch.device(args.device), args.bf16
        self.backbone = build_backbone(arch, size, args.depth)
        self.backbone.to(self.device)
        dims = self.backbone.num_features[-1] if self.is_swin else (
            self.backbone.embed_dims)
        self.head = nn.Linear(dims, args.num_classes, device=self.device)
        self.params = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-6)
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        self.scores = torch.eye(args.num_classes)[torch.arange(batch)]
        self.scores = self.scores.to(self.device)
        mix = TokenCutMix(patch_size=4 if self.is_swin else 16)
        self.token_share = mix.draw(self.images).token_share
        self.trace = LabelTrace(self.backbone)

    def loss(self, variant: str) -> torch.Tensor:
        """Loss of one variant: stock, null, dense or a key of PATHS."""
        with torch.autocast(
                self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            feats, share = self._features(variant)
            feat = feats[-1].mean((2, 3)) if self.is_swin else feats[-1]
            log_prob = self.head(feat).float().log_softmax(-1)
        target = share * self.scores + (1 - share) * self.scores.flip(0)
        return -(target * log_prob).sum(-1).mean()

    def _features(self, variant):
        if variant == 'dense':
            own = self.token_share[..., None].to(self.device)
            scores = self.scores[:, None, None]
            labels = own * scores + (1 - own) * scores.flip(0)
            feats, labels = dense_step(self.backbone, self.images, labels)
            # Any number will do in place of the share that it replaces.
            return feats, labels[:, 0].max(-1, keepdim=True)[0]
        if variant in ('stock', 'null'):
            lam = self.token_share.mean((1, 2))
            return self.backbone(self.images), lam[:, None].to(self.device)
        with force_path(PATHS[variant]), self.trace(self.token_share):
            feats = self.backbone(self.images)
        return feats, self.trace.output_share[:, None]

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
        """Bytes of unique storages kept for the backward, parameters
        excluded."""
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x)
        with hooks:
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


def build_backbone(arch: str, size: int, depth: int) -> nn.Module:
    """A stock backbone; ``depth`` > 0 cuts a ViT to so many blocks."""
    if arch == 'swin-tiny':
        return SwinTransformer(arch='tiny', img_size=size, drop_path_rate=0.)
    settings = dict(VisionTransformer.arch_zoo[arch])
    settings['num_layers'] = depth or settings['num_layers']
    return VisionTransformer(arch=settings, img_size=size, patch_size=16)


@contextlib.contextmanager
def force_path(path):
    """Make LabelTrace take one attention path instead of its choice."""
    if path is None:
        yield
        return
    with mock.patch('mmtlalign.alignment.trace.choose_share_attention',
                    lambda device: path):
        yield


def measure(case: str, variants: list, args) -> dict:
    """Ratios to stock of each variant: bytes kept and time quartiles, the
    latter (quartile, clock)."""
    step = TrainingStep(case, args)
    seconds = {variant: [] for variant in variants}
    for variant in variants:
        step.run(variant)
    console = Console(stderr=True)
    for i in track(range(args.rounds), f'{case:>12}', console=console):
        for k in range(len(variants)):
            variant = variants[(i + k) % len(variants)]
            seconds[variant].append(step.run(variant))
    stock_bytes = step.bytes_kept('stock')
    stock = np.array(seconds['stock'])
    return dict(
        seconds=float(np.median(stock[:, 0])),
        bytes=stock_bytes,
        ratios={
            v: np.percentile(np.array(seconds[v]) / stock, [25, 50, 75], 0)
            for v in variants if v != 'stock'
        },
        memory={v: step.bytes_kept(v) / stock_bytes for v in variants})


def verdict(result: dict) -> str:
    """pass, FAIL or too noisy, for the path that LabelTrace takes."""
    if result['memory']['aligned'] > 1 + MARGIN:
        return 'FAIL (memory)'
    for i, clock in enumerate(('wall', 'processor')):
        low, _, high = result['ratios']['null'][:, i]
        if 1 - MARGIN <= low and high <= 1 + MARGIN:
            good = result['ratios']['aligned'][1, i] <= 1 + MARGIN
            return f'{"pass" if good else "FAIL"} ({clock} time)'
    return 'too noisy'


def report(case: str, result: dict) -> None:
    """Rows of a Markdown table."""
    for variant, quartiles in result['ratios'].items():
        times = ' | '.join(f'{mid:.3f} ({low:.3f} to {high:.3f})'
                           for low, mid, high in quartiles.T)
        judged = verdict(result) if variant == 'aligned' else ''
        print(f'| {case} | {variant} | {times} | '
              f'{result["memory"][variant]:.3f} | {result["seconds"]:.2f} | '
              f'{result["bytes"] / 2**20:.0f} | {judged} |', flush=True)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--cases', nargs='+', default=list(CASES), choices=list(CASES))
    parser.add_argument(
        '--rounds', type=int, default=30, help='interleaved rounds per case')
    parser.add_argument(
        '--compare',
        action='store_true',
        help='time the other paths and dense labels as well')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument(
        '--bf16', action='store_true', help='autocast to bfloat16')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--num-classes', type=int, default=1000)
    parser.add_argument(
        '--depth', type=int, default=0, help='blocks of the ViT (0: all)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    machine = torch.cuda.get_device_name() if args.device != 'cpu' else (
        f'{processor()}, {args.threads} threads')
    print(f'{machine}; torch {torch.__version__}, '
          f'{"bfloat16 autocast" if args.bf16 else "float32"}, '
          f'{args.num_classes} classes, {args.rounds} rounds; ratios to the '
          'stock step, null = stock again\n')
    print('| case | variant | wall time (quartiles) | processor time '
          '(quartiles) | bytes kept | stock step, s | stock MiB kept | '
          'verdict |\n|---|---|---|---|---|---|---|---|')
    for case in args.cases:
        variants = ['stock', 'null', 'aligned']
        if args.compare:
            is_swin = case.startswith('swin')
            variants += [] if is_swin else ['padded', 'separate', 'dense']
        report(case, measure(case, variants, args))


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == '__main__':
    main()
