"""What a training has left about itself: its config, command and log."""

import argparse
import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import takewhile
from math import inf
from pathlib import Path

from mmengine.config import Config, DictAction

from mmtlalign.errors import UserError
from mmtlalign.old_arguments import modernise
from mmtlalign.resources import ROOT, list_configs

# Entries of a config without effect on weights; tools/train.py sets most.
NOT_OF_THE_RECIPE = ('data_hint', 'launcher', 'resume', 'visualizer', 'work_dir')

ABSENT = object()  # in place of the value of a key
# What reading literals may raise, ours and ast's.
NOT_LITERAL: tuple[type[Exception], ...] = (AttributeError, KeyError, TypeError, ValueError)
NOT_LITERAL += (MemoryError, RecursionError, SyntaxError)


def read_config(text: str, path: str, trust: bool) -> Config:
    """The config in a checkpoint, in today's words; without trust, nothing in it is run.

    Raises:
        UserError: If it does more than give names to literals.
    """
    cfg = Config.fromstring(text, '.py') if trust else _read_literals(text, path)
    if isinstance(cfg.get('model'), dict):
        modernise(cfg.model)
    return cfg


def _read_literals(text: str, path: str) -> Config:
    try:
        entries = read_literals(text)
        if 'custom_imports' in entries:
            raise ValueError('custom_imports')
        return Config(entries)
    except NOT_LITERAL as error:
        reason = str(error).partition(':')[0] or type(error).__name__
        raise UserError(
            f"checkpoint '{path}': its config is more than a list of values ({reason}), and "
            'reading that can run any code; pass --trust if you trust whoever made it'
        ) from None


def read_literals(text: str) -> dict:
    """The names that a text gives to literals.

    Raises:
        Exception: Of several kinds, if it does anything else.
    """
    entries = {}
    for line in ast.parse(text).body:
        if not isinstance(line, ast.Assign):
            raise ValueError(f'no assignment on line {line.lineno}')
        for target in line.targets:
            value = read_literal(line.value)
            # what is no name has no id, and an exception is what is promised
            entries[target.id] = value  # type: ignore[attr-defined]
    return entries


def read_literal(node: ast.expr):
    """As ``ast.literal_eval``, and calls of ``dict``.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(node, ast.List):
        return [read_literal(value) for value in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(read_literal(value) for value in node.elts)
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if key is not None]
        if len(keys) == len(node.keys):  # without **
            return dict(zip(map(read_literal, keys), map(read_literal, node.values)))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        if all(keyword.arg for keyword in node.keywords):  # without **
            named = {str(keyword.arg): read_literal(keyword.value) for keyword in node.keywords}
            return dict(*map(read_literal, node.args), **named)
    return ast.literal_eval(node)


def find_command(cfg: Config, name: str, seed: int | None) -> tuple[str, str]:
    """The command of a training, from what its config has become.

    Args:
        cfg (Config): What was trained.
        name (str): Of the config that it began as.
        seed (int, optional): Its seed, which the config need not have.

    Returns:
        tuple[str, str]: The command, and in words what it does not cover; '' if that is nothing.
    """
    file = list_configs().get(name)
    if not file:
        return f'python tools/train.py {name}.py', (
            'any options: no config of this name comes along to compare with'
        )
    options, others = [], []
    for keys, value in find_changes(cfg, name, seed) or []:
        key = '.'.join(map(str, keys))
        option = re.sub("[ ']", '', f'{key}={value}')
        if read_option(option) == (keys, value):
            options.append(option)
        else:
            others.append(key)
    command = ['python', 'tools/train.py', file.relative_to(ROOT).as_posix()]
    command += ['--cfg-options', *options] if options else []
    return shlex.join(command), (f'differences in {", ".join(others)}' if others else '')


def find_changes(cfg: Config, name: str, seed: int | None) -> list[tuple] | None:
    """Keys and values by which what was trained differs from the config that it began as; arguments
    as of :func:`find_command`. None if no config of this name comes along."""
    file = list_configs().get(name)
    if not file:
        return None
    named, trained = Config.fromfile(file).to_dict(), cfg.to_dict()
    if seed is not None:
        trained['randomness'] = dict(trained.get('randomness') or {}, seed=seed)
    ignored = {*NOT_OF_THE_RECIPE}
    if cfg.get('resume'):  # which puts its own checkpoint there
        ignored.add('load_from')
    return [change for change in find_differences(named, trained) if change[0][0] not in ignored]


def find_differences(old, new, keys: tuple = ()) -> Iterator[tuple]:
    """Keys of nested dicts, and new values, where these are not the old."""
    if isinstance(new, dict) and (isinstance(old, dict) or old is ABSENT):
        old = {} if old is ABSENT else old
        for key in sorted({*old, *new}, key=str):
            yield from find_differences(old.get(key, ABSENT), new.get(key, ABSENT), (*keys, key))
    elif old != new:
        yield keys, new


def read_option(option: str) -> tuple:
    """Keys and value that tools/train.py reads from one of --cfg-options."""
    read = argparse.Namespace()
    try:
        DictAction((), 'options')(None, read, [option])
    except AssertionError:  # brackets in a string
        return ()
    ((key, value),) = read.options.items()
    return tuple(key.split('.')), value


def split_version(meta: dict) -> tuple[str, str]:
    """mmengine's version in a checkpoint's meta, and the commit of the folder that a training ran
    in, which mmengine appends to it; '' or 'unknown' without one."""
    return re.findall(r'(.*?)([0-9a-f]{40}|unknown|)\Z', meta.get('mmengine_version', ''))[0]


def read_log(path: str, meta: dict) -> str:
    """The scalars of a training, as lines of JSON; '' if there are none.

    Its parts, resumed into one another, lie in the checkpoint's folder, with
    those of trainings before and after it. What a part did after its last
    checkpoint was done again by the next one, and is left out.

    Args:
        path (str): Of the checkpoint.
        meta (dict): Its. Its ``legs`` tell the folders of the parts in the order that they ran in,
            which their times need not tell: clocks are set back. Without them, the name of the
            experiment ends with the time of the last part, which is also the name of a folder.
    """
    parts = Path(path).parent
    if legs := meta.get('legs'):
        logs = [parts / Path(str(leg.get('time'))).name / 'vis_data/scalars.json' for leg in legs]
        return join_logs((log for log in logs if log.is_file()), legs=True)
    last = meta.get('experiment_name', '')[-len('20260101_000000') :]
    return join_logs(
        log
        for log in sorted(parts.glob('*/vis_data/scalars.json'))
        if not last or log.parts[-3] <= last
    )


def join_logs(logs: Iterable[Path], legs: bool = False) -> str:
    """Logs of a training's parts in their order, no step twice.

    Args:
        logs (Iterable[Path]): The oldest first.
        legs (bool): All of one training. Defaults to False: one that begins
            at the start begins another.
    """
    kept: list[tuple[int, str]] = []
    begin = inf
    for log in logs:
        # but for a line that was being written when the training was killed
        try:
            text = log.read_text().splitlines(keepends=True)
            lines = [line for line in text if line.endswith('\n')]
            records = [json.loads(line) for line in lines]
            steps = [record['step'] + 0 for record in records]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"'{log}' is no log of a training: it is damaged, remove it") from None
        if not lines:
            continue
        if not legs and (records[0].get('epoch') == 1 or steps[0] <= begin):  # anew
            kept, begin = [], steps[0]
        # Validations whose steps are epochs end nothing: more iterations than
        # epochs have been done before a part that is resumed by epochs.
        kept = [*takewhile(lambda pair: pair[0] < steps[0], kept), *zip(steps, lines)]
    return ''.join(line for _, line in kept)


def tell_legs(meta: dict) -> list[str]:
    """What a checkpoint's training was resumed with that its last config does not say."""
    legs = [leg for leg in meta.get('legs', []) if isinstance(leg, dict)]
    told = []
    for leg in legs:
        told += [f'from iteration {leg.get("iter")} on: {it}' for it in leg.get('changes', [])]
    processes = {leg['processes'] for leg in legs if 'processes' in leg}
    if len(processes) > 1:
        told.append(f'parts ran with {" and ".join(map(str, sorted(processes)))} processes')
    return told
