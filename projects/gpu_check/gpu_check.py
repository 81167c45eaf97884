"""Check and time alignment's kernels on this machine's GPU, in 25 minutes.

    python projects/gpu_check/gpu_check.py
    python projects/gpu_check/gpu_check.py --rehearse  # on a CPU, tiny

Writes gpu_check.json and gpu_check.md. What fails is noted and the rest goes
on; what the time does not suffice for is noted too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REHEARSE = '--rehearse' in sys.argv
if REHEARSE:  # before anything imports Triton
    os.environ['TRITON_INTERPRET'] = '1'
sys.path.insert(0, str(ROOT / 'tools/benchmarks'))

import alignment_overhead as overhead  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.utils.benchmark import Timer  # noqa: E402

from mmtlalign.alignment.kernels import choice  # noqa: E402
from mmtlalign.alignment.kernels.windows import mean_heads_of_windows  # noqa: E402

DEVICE = torch.device('cpu' if REHEARSE else 'cuda')
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Heads, queries, keys, width; with a batch before them, of DeiT-S at 224, 384, 512 px and ViT-B;
# windows, heads, positions of Swin-T's first stage; batches of the benchmark's cases.
if REHEARSE:
    SHAPES, TIMED, WINDOWS = ((1, 20, 7, 24),), ((1, 2, 5, 5, 16),), (2, 2, 9)
    STEPS, NAMES = dict(tiny=1), tuple(choice.KERNELS)
else:
    SHAPES = ((6, 197, 197, 64), (6, 577, 577, 64), (6, 1025, 1025, 64))
    SHAPES += ((3, 50, 50, 32), (4, 197, 197, 80), (2, 196, 49, 64))
    TIMED = ((128, 6, 197, 197, 64), (64, 6, 577, 577, 64))
    TIMED += ((32, 6, 1025, 1025, 64), (128, 12, 197, 197, 64))
    WINDOWS = (8192, 3, 49)
    STEPS = {'deit-s-224': 128, 'deit-s-384': 64, 'deit-s-512': 32, 'swin-t-224': 128}
    NAMES = choice.ORDER['cuda']
TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32)
TINY = dict(arch=TINY, img_size=32)
overhead.CASES['tiny'] = (overhead.MMPRETRAIN, 'VisionTransformer', TINY, 32, 16, 1)
WINDOW_KERNELS = (
    ('triton', lambda *inputs: choice.load('triton', 'window_pass')(*inputs)),
    ('mean', mean_heads_of_windows),
)
RECIPE = 'configs/classification/tlalign/tlalign_deit-digits_1xb32_digits.py'


class Report:
    """Tables that grow row by row, and the time that is left for them."""

    def __init__(self, minutes: float) -> None:
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes
        self.tables: dict[str, list[dict]] = {}

    def add(self, table: str, measure: Callable[[], dict], **keys) -> None:
        """A row: ``keys`` and what is measured, or a note why it is not."""
        if time.monotonic() > self.end:
            row = dict(keys, note='left out: no time left')
        else:
            try:
                row = dict(keys, **measure())
            except Exception as error:  # compilers and drivers raise anything
                row = dict(keys, note=choice.first_line(error))
        self.tables.setdefault(table, []).append(row)
        print(f'[{time.monotonic() - self.start:.0f} s] {table}: {row}', flush=True)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'gpu_check.json').write_text(json.dumps(self.tables, indent=1) + '\n')
        lines = ['# Check of the kernels', '']
        if REHEARSE:
            said = "A rehearsal on a CPU, in Triton's interpreter, on tiny shapes"
            lines += [f'{said}: its times mean nothing.', '']
        for title, rows in self.tables.items():
            names = list(dict.fromkeys(key for row in rows for key in row))
            lines += [f'## {title}', '', _line(names), _line(['---'] * len(names))]
            lines += [_line([_text(row.get(name, '')) for name in names]) for row in rows] + ['']
        (folder / 'gpu_check.md').write_text('\n'.join(lines))


def _line(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _text(value) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def machine() -> dict:
    import triton

    found = dict(device=overhead.processor(), cuda='none', cudnn='none')
    if DEVICE.type == 'cuda':
        cudnn = torch.backends.cudnn.version()
        found = dict(device=torch.cuda.get_device_name(), cuda=torch.version.cuda, cudnn=cudnn)
    return dict(found, torch=torch.__version__, triton=triton.__version__)


def load(name: str) -> Callable:
    return choice.load(*choice.KERNELS[name])


def errors(name: str, case: choice.Case) -> dict:
    """Largest differences from float64, and of the public function's gradients for comparison."""
    kernel = load(name)
    qkv, share, grad = choice.draw(case, 2)
    out, mixed, carried = kernel(*qkv, share, None, case.carry)
    doubles = [x.detach().double().requires_grad_() for x in qkv]
    expected = F.scaled_dot_product_attention(*doubles)
    right = torch.autograd.grad(expected, doubles, grad.double())
    found = torch.autograd.grad(out, qkv, grad)
    stock = torch.autograd.grad(F.scaled_dot_product_attention(*qkv), qkv, grad)
    moved, own = choice.explicit_shares(*doubles, share.double())
    row = dict(features=gap(out, expected), share=gap(mixed, moved))
    row['gradient'] = max(map(gap, found, right))
    row['stock gradient'] = max(map(gap, stock, right))
    return row if carried is None else dict(row, carried=gap(carried, own))


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    return (found.detach().double() - expected.detach()).abs().max().item()


def check_kernels(report: Report) -> None:
    for dtype in DTYPES:
        for shape in SHAPES:
            for carry in (False, True):
                case = choice.Case(DEVICE, dtype, *shape, carry)
                keys = dict(dtype=str(dtype), shape=str(shape), carry=carry)
                for name in NAMES:
                    measure = partial(errors, name, case)
                    report.add('Errors against float64', measure, kernel=name, **keys)
        report.add('Errors of windows', partial(window_errors, dtype), dtype=str(dtype))


def windows(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    number, heads, positions = WINDOWS
    matrix = torch.randn(number, heads, positions, positions, device=DEVICE)
    channels = torch.rand(number, positions, 2, device=DEVICE)
    return matrix.softmax(-1).to(dtype), channels


def window_errors(dtype: torch.dtype) -> dict:
    matrix, channels = windows(dtype)
    expected = matrix.double().mean(1) @ channels.double()
    return {name: gap(kernel(matrix, channels), expected) for name, kernel in WINDOW_KERNELS}


def milliseconds(run: Callable) -> dict:
    """Median time of a call."""
    run()
    timer = Timer('run()', globals=dict(run=run))
    return dict(ms=1e3 * timer.blocked_autorange(min_run_time=0.01 if REHEARSE else 0.5).median)


def time_kernels(report: Report) -> None:
    dtype = torch.bfloat16
    for batch, *shape in TIMED:
        for carry in (False, True):
            case = choice.Case(DEVICE, dtype, *shape, carry)
            keys = dict(shape=f'{batch} x {tuple(shape)}', carry=carry)
            for name in ('stock', *NAMES):
                measure = partial(attention_time, name, case, batch)
                report.add('Forward and backward of attention', measure, **keys, kernel=name)
    matrix, channels = windows(dtype)
    for name, kernel in WINDOW_KERNELS:
        measure = partial(milliseconds, partial(kernel, matrix, channels))
        report.add('Shares of windows', measure, kernel=name)


def attention_time(name: str, case: choice.Case, batch: int) -> dict:
    qkv, share, grad = choice.draw(case, batch)
    kernel = None if name == 'stock' else load(name)

    def run() -> None:
        if kernel is None:
            out = F.scaled_dot_product_attention(*qkv)
        else:
            out, *_ = kernel(*qkv, share, None, case.carry)
        torch.autograd.grad(out, qkv, grad)

    return milliseconds(run)


def check_steps(report: Report, rounds: int, compiled: bool) -> None:
    """Whole training steps in bfloat16, interleaved with the stock step."""
    for name, batch in STEPS.items():
        measure = partial(steps, name, batch, compiled, rounds)
        report.add('Training steps', measure, model=name, batch=batch, compiled=compiled)


def steps(name: str, batch: int, compiled: bool, rounds: int) -> dict:
    """Median and quartiles of the ratios to the stock step within a round, and peak memory."""
    torch._dynamo.reset()
    args = dict(bf16=True, propagation=['tlalign', 'contribution'], watch=None, num_classes=1000)
    args = argparse.Namespace(device=str(DEVICE), batch=batch, **args)
    step = overhead.TrainingStep(name, args)
    if compiled:
        backend = 'aot_eager' if REHEARSE else 'inductor'
        step.model = torch.compile(step.backbone, backend=backend)
    variants = [overhead.STOCK, overhead.NULL, *step.traces]
    row, peaks = {}, {}
    for variant in variants:
        for _ in range(1 if REHEARSE else 3):
            step.run(variant)
        if DEVICE.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            step.run(variant)
            peaks[variant] = torch.cuda.max_memory_allocated()
    timed = {variant: lambda _, v=variant: step.run(v)[0] for variant in variants}
    seconds = overhead.interleave(timed, rounds, name)
    stock = seconds[overhead.STOCK]
    row['stock ms'] = 1e3 * float(np.median(stock))
    for variant in variants[1:]:
        low, middle, high = np.percentile(seconds[variant] / stock, [25, 50, 75])
        row[variant] = f'{middle:.3f} ({low:.3f} to {high:.3f})'
        if peaks:
            row[f'{variant}, memory'] = round(peaks[variant] / peaks[overhead.STOCK], 4)
    return row


def train_digits(report: Report, folder: Path) -> None:
    for dtype in ('fp16', 'bf16'):
        report.add('Digits with --amp', partial(train, dtype, folder), dtype=dtype)


def train(dtype: str, folder: Path) -> dict:
    """Top-1 after training the digits."""
    if DEVICE.type == 'cpu' and dtype == 'fp16':
        return dict(note='skipped: mixed precision on a CPU is bfloat16')
    work_dir = folder / f'digits_{dtype}'
    command = [sys.executable, 'tools/train.py', RECIPE, '--amp-dtype', dtype, '--no-report']
    command += ['--work-dir', str(work_dir)]
    if REHEARSE:
        command += ['--cfg-options', 'train_cfg.max_epochs=2']
        command += [f'{part}_dataloader.dataset.indices=32' for part in ('train', 'val')]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout).splitlines()[-1])
    scalars = max(work_dir.glob('*/vis_data/scalars.json'))
    scores = [json.loads(line) for line in scalars.read_text().splitlines()]
    scores = [x['accuracy/top1'] for x in scores if 'accuracy/top1' in x]
    return dict(top1=scores[-1], seconds=time.monotonic() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rehearse, out = "on a CPU: Triton's interpreter, tiny shapes", ROOT / 'work_dirs/gpu_check'
    parser.add_argument('--rehearse', action='store_true', help=rehearse)
    parser.add_argument('--out', type=Path, default=out, help='folder for the two files')
    parser.add_argument('--minutes', type=float, default=20, help='when nothing more is begun')
    parser.add_argument('--rounds', type=int, default=2 if REHEARSE else 30)
    args = parser.parse_args()
    if not REHEARSE and not torch.cuda.is_available():
        there_is_none = 'there is no CUDA device here; rehearse on a CPU with --rehearse.'
        parser.exit(2, f'gpu_check: {there_is_none}\n')
    report = Report(args.minutes)
    report.add('Machine', machine)
    try:
        check_kernels(report)
        time_kernels(report)
        check_steps(report, args.rounds, compiled=False)
        train_digits(report, args.out.resolve())
        check_steps(report, args.rounds, compiled=True)  # compiling takes longest
    finally:  # whatever happens, what was measured is kept
        report.write(args.out)
    print(f'Written to {args.out}')


if __name__ == '__main__':
    main()
