"""The folder that every command is tried in: data, configs, checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tasks
import torch
from corpus import TRACE
from mmengine.config import Config
from sandbox import Outcome, call

CLASSES = dict(tiny=('class0', 'class1', 'class2'), detector=('a', 'b'), segmenter=('a', 'b'))
CONFIGS = dict(
    tiny=tasks.CLASSIFIER,
    annotator=tasks.ANNOTATOR,
    tokens=tasks.CLASSIFIER + tasks.TOKEN_LABELS,
    detector=tasks.DETECTOR,
    segmenter=tasks.SEGMENTER,
)


ANNOTATE = 'annotator.py annotator.pth tokens.py --size 48 --device cpu --force'.split()


class Case(NamedTuple):
    """A call, and what is done before.

    Attributes:
        name (str): Unique.
        what (str | Callable): Command, script or function.
        arguments (list[str]): Its.
        spoil (Callable): Takes the folder to run in, and spoils it.
        named (str): What the line must name, if it is to end in one.
    """

    name: str
    what: str | Callable
    arguments: list[str]
    spoil: Callable[[Path], object] = lambda folder: None
    named: str = ''


class Bench:
    """Makes a sound folder once, and copies of it to spoil.

    Args:
        root (Path): Where they lie; a folder there is used again.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.sound = root, root / 'sound'
        if (self.sound / 'trained.pth').exists():
            return
        shutil.rmtree(self.sound, ignore_errors=True)
        self.sound.mkdir(parents=True)
        tasks.write_classes(self.sound)
        tasks.write_scenes(self.sound)
        shutil.copy(self.sound / 'images/class0/0.png', self.sound / 'photo.png')
        for name, text in CONFIGS.items():
            (self.sound / f'{name}.py').write_text(text)
        outcome = call(save_weights, [], self.sound)
        assert outcome.status == 0, outcome.err
        self.expect('token_labels', ANNOTATE, self.sound)
        self.train()

    def train(self) -> None:
        """Leave a trained checkpoint and its log."""
        self.expect('train', ['tiny.py', '--no-report'], self.sound)
        log = next(self.sound.glob('work_dirs/tiny/*/vis_data/scalars.json'))
        shutil.copy(log, self.sound / 'scalars.json')
        shutil.copy(self.sound / 'work_dirs/tiny/epoch_3.pth', self.sound / 'trained.pth')
        shutil.rmtree(self.sound / 'work_dirs')

    def copy(self) -> Path:
        """A sound folder, instead of the last one."""
        folder = self.root / 'try'
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.sound, folder)
        return folder

    def call(self, what: str | Callable, arguments: list, folder: Path, **kill_after) -> Outcome:
        """Ours; see :func:`sandbox.call`."""
        return call(what, arguments, folder, **kill_after)

    def expect(self, what, arguments: list, folder: Path) -> Outcome:
        """A call that must succeed."""
        outcome = self.call(what, arguments, folder)
        if outcome.status:
            raise RuntimeError(f'{what} {arguments}: status {outcome.status}\n{outcome.err}')
        return outcome

    def attempt(self, case: Case) -> dict:
        """What comes of a case: whether it ends in one clear line, and whether anything in a
        file of it was executed."""
        folder = self.copy()
        case.spoil(folder)
        outcome = self.call(case.what, case.arguments, folder)
        return dict(
            clear=outcome.is_clear(case.named),
            executed=any(folder.rglob(TRACE)),
            status=outcome.status,
            lines=len(outcome.err.splitlines()),
            line=outcome.line[-400:],
        )


def save_weights() -> None:
    """Random ones of every config, and what else lies in the folder."""
    import mmtlalign

    for name in ('tiny', 'annotator', 'detector', 'segmenter'):
        model = mmtlalign.get_model(f'{name}.py')
        classes = CLASSES.get(name, CLASSES['tiny'])
        palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]][: len(classes)]
        meta = dict(dataset_meta=dict(classes=classes, palette=palette))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), f'{name}.pth')
    dump_config(Path())
    Path('metrics.json').write_text(json.dumps({'accuracy/top1': 50.0}))


def dump_config(folder: Path) -> None:
    """The tiny one, as data."""
    cfg = Config.fromfile(folder / 'tiny.py')
    cfg.dump(folder / 'tiny.yaml')
    cfg.dump(folder / 'tiny.json')
