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
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch, since it is forked

import torch
from bench import ANNOTATE, Bench
from corpus import TRACE, sound_parts, write_corpus
from entry_points import all_calls
from inputs import Case, all_cases, slot
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
    """Run the parts asked for, of ours or of stock."""
    cases = dict(
        executions=lambda: hostile(bench, args.quick),
        sound=lambda: sound(bench),
        inputs=lambda: {case.name: lambda case=case: wrong(case, bench) for case in all_cases()},
        kills=lambda: all_kills(args.kills, bench),
    )
    for part in args.parts:
        run_part(part, cases[part](), out / f'{part}.jsonl')


def run_part(part: str, cases: dict[str, Callable[[], dict]], out: Path) -> None:
    """Run what has no result yet, and keep each at once."""
    done = {json.loads(line)['name'] for line in read_lines(out)}
    todo = [name for name in cases if name not in done]
    for name in track(todo, f'{part} ({len(done)} done)'):
        try:
            result = dict(name=name, **cases[name]())
        except NotApplicable:
            result = dict(name=name, applies=False)
        with open(out, 'a') as file:
            file.write(json.dumps(result) + '\n')


def read_lines(path: Path) -> list[str]:
    """But for one that was being written when this was killed."""
    if not path.is_file():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]


def hostile(bench: Bench, quick: bool) -> dict[str, Callable[[], dict]]:
    """Every hostile file for every entry point, or one each, spread over them."""
    corpus = bench.root / 'corpus'
    files = write_corpus(corpus, bench.sound / 'trained.pth')
    calls: dict[str, list] = {}
    for what, call_ in all_calls():
        is_open = any('{' in part for part in call_)
        calls.setdefault(slot(call_) if is_open else '', []).append((what, call_))
    cases = {}
    for kind, those in calls.items():
        for number, (what, arguments) in enumerate(those):
            paths = files.get(kind, [Path()])
            for path in [paths[number * len(paths) // len(those)]] if quick else paths:
                given = [part.replace(f'{{{kind}}}', path.name) for part in arguments]
                name = what if isinstance(what, str) else what.__name__
                cases[f'{name} {" ".join(given)}'] = lambda what=what, given=given: attack(
                    what, given, bench, corpus
                )
    return cases


def attack(what, arguments: list, bench: Bench, corpus: Path) -> dict:
    """Whether anything in a hostile file was executed."""
    folder = bench.copy(corpus)
    outcome = bench.call(what, arguments, folder)
    return dict(executed=any(folder.rglob(TRACE)), status=outcome.status, line=outcome.line[-300:])


def sound(bench: Bench) -> dict[str, Callable[[], dict]]:
    """Files of every allowed kind, which must be read."""

    def read(what, arguments, part=None):
        folder = bench.copy()
        if part is not None:
            content = torch.load(folder / 'trained.pth', weights_only=False)
            torch.save(dict(content, more=part), folder / 'more.pth')
        outcome = bench.call(what, arguments, folder)
        return dict(status=outcome.status, line=outcome.line[-300:])

    cases = {
        f'config {name}': lambda name=name: read('test', [name, 'tiny.pth'])
        for name in ('tiny.py', 'tiny.yaml', 'tiny.json')
    }
    cases['token_labels'] = lambda: read('token_labels', [*ANNOTATE, '--out', 'new'])
    longer = ['tiny.py', '--extend', '4', '--resume', 'more.pth']
    for name, part in sound_parts().items():
        cases[f'test {name}'] = lambda part=part: read('test', ['tiny.py', 'more.pth'], part)
        cases[f'resume {name}'] = lambda part=part: read('train', longer, part)
    for name in ('tiny', 'detector', 'segmenter'):
        cases[f'resume stock {name}'] = lambda name=name: resume_stock(name, bench)
    return cases


def resume_stock(name: str, bench: Bench) -> dict:
    """Go on with what mmengine's own runner has trained and saved."""
    folder = bench.copy()
    bench.expect(train_stock, [f'{name}.py'], folder)
    (start,) = folder.glob('stock/*_2.pth')
    more = ['train_cfg.max_epochs=3'] if name == 'tiny' else ['train_cfg.max_iters=4']
    accept = ['--accept', 'custom_hooks', 'train_cfg', 'param_scheduler', 'work_dir', 'load_from']
    arguments = [f'{name}.py', '--resume', f'stock/{start.name}', '--cfg-options', *more, *accept]
    outcome = bench.call('train', arguments, folder)
    return dict(status=outcome.status, line=outcome.line[-300:])


def train_stock(config: str) -> None:
    """Two epochs or iterations by mmengine's runner."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.custom_hooks = 'stock', []
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg.max_epochs = 2
    Runner.from_cfg(cfg).train()


def wrong(case: Case, bench: Bench) -> dict:
    """Whether a wrong input ends in one clear line."""
    folder = bench.copy()
    case.spoil(folder)
    outcome = bench.call(case.what, case.arguments, folder)
    return dict(
        clear=outcome.is_clear(case.named),
        status=outcome.status,
        lines=len(outcome.err.splitlines()),
        line=outcome.line[-400:],
    )


if __name__ == '__main__':
    main()
