"""Try what goes wrong in the world: kills, wrong inputs, hostile files.

    python projects/reliability/run.py              # goes on where it stopped
    python projects/reliability/run.py --parts executions inputs
    python projects/reliability/run.py --kills 30

Every result is a line of JSON in ``--out``; docs/reliability.md is written from them. ``--quick``
tries one hostile file on every entry point, and writes no page; the test suite does that.
"""

import argparse
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch, since it is forked

import torch
from bench import ANNOTATE, Bench, Case
from corpus import sound_parts, write_corpus
from entry_points import all_calls
from inputs import slot, wrong_cases
from kills import all_kills
from rich.progress import track
from sandbox import ROOT, import_all
from stock import NotApplicable, StockBench

PARTS = ('executions', 'sound', 'inputs', 'kills')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/reliability')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--kills', type=int, default=102, help='how many (default: 102)')
    parser.add_argument('--quick', action='store_true', help='one hostile file each, no page')
    args = parser.parse_args()
    out = args.out.resolve()
    if not args.quick:  # before anything of ours is imported
        run_parts(StockBench(out / 'stock/bench', Bench(out / 'bench')), out / 'stock', args)
    import_all()
    run_parts(Bench(out / 'bench'), out, args)
    if not args.quick:
        from page import write_page

        write_page(out, ROOT / 'docs/reliability.md')


def run_parts(bench: Bench, out: Path, args: argparse.Namespace) -> None:
    """Run what has no result yet of the parts asked for, of ours or of stock."""
    for part in args.parts:
        path = out / f'{part}.jsonl'
        done = {json.loads(line)['name'] for line in read_lines(path)}
        cases = all_cases(part, bench, args)
        todo = [name for name in cases if name not in done]
        for name in track(todo, f'{part} ({len(done)} done)'):
            try:
                result = dict(name=name, **cases[name]())
            except NotApplicable:
                result = dict(name=name, applies=False)
            with open(path, 'a') as file:  # each at once
                file.write(json.dumps(result) + '\n')


def all_cases(part: str, bench: Bench, args: argparse.Namespace) -> dict[str, Callable[[], dict]]:
    """By name, what makes the results of a part."""
    if part == 'kills':
        return all_kills(args.kills, bench)
    make = dict(
        executions=partial(hostile_cases, bench, args.quick),
        sound=partial(sound_cases, bench),
        inputs=wrong_cases,
    )
    return {case.name: partial(bench.attempt, case) for case in make[part]()}


def hostile_cases(bench: Bench, quick: bool) -> Iterator[Case]:
    """Every hostile file for every entry point, or one each, spread over them."""
    corpus = bench.root / 'corpus'
    files = write_corpus(corpus, bench.sound / 'trained.pth')
    spoil = partial(shutil.copytree, corpus, dirs_exist_ok=True)
    calls = defaultdict(list)
    for what, arguments in all_calls():
        calls[slot(arguments)].append((what, arguments))
    for kind, those in calls.items():
        paths = files.get(kind, [Path()])
        for number, (what, arguments) in enumerate(those):
            for path in [paths[number * len(paths) // len(those)]] if quick else paths:
                given = [part.replace(f'{{{kind}}}', path.name) for part in arguments]
                name = what if isinstance(what, str) else what.__name__
                yield Case(f'{name} {" ".join(given)}', what, given, spoil)


def sound_cases(bench: Bench) -> Iterator[Case]:
    """Files of every allowed kind, which must be read."""
    for name in ('tiny.py', 'tiny.yaml', 'tiny.json'):
        yield Case(f'config {name}', 'test', [name, 'tiny.pth'])
    yield Case('token_labels', 'token_labels', [*ANNOTATE, '--out', 'new'])
    longer = ['tiny.py', '--extend', '4', '--resume', 'more.pth']
    for name, part in sound_parts().items():
        spoil = partial(save_with, part)
        yield Case(f'test {name}', 'test', ['tiny.py', 'more.pth'], spoil)
        yield Case(f'resume {name}', 'train', longer, spoil)
    changed = 'custom_hooks train_cfg param_scheduler work_dir load_from'
    for name, start, more in (
        ('tiny', 'epoch_2', 'train_cfg.max_epochs=3'),
        ('detector', 'iter_2', 'train_cfg.max_iters=4'),
        ('segmenter', 'iter_2', 'train_cfg.max_iters=4'),
    ):
        words = f'{name}.py --resume stock/{start}.pth --cfg-options {more} --accept {changed}'
        spoil = partial(bench.expect, train_stock, [f'{name}.py'])
        yield Case(f'resume stock {name}', 'train', words.split(), spoil)


def save_with(part: object, folder: Path) -> None:
    """A sound checkpoint that holds more."""
    content = torch.load(folder / 'trained.pth', weights_only=False)
    torch.save(dict(content, more=part), folder / 'more.pth')


def train_stock(config: str) -> None:
    """Two epochs or iterations by mmengine's own runner."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.custom_hooks = 'stock', []
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg.max_epochs = 2
    Runner.from_cfg(cfg).train()


def read_lines(path: Path) -> list[str]:
    """But for one that was being written when this was killed."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith('\n')]


if __name__ == '__main__':
    main()
