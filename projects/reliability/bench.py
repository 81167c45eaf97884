"""The folder that every command is tried in: data, configs, checkpoints."""

import json
import shutil
from pathlib import Path

import torch
from mmengine.config import Config
from sandbox import Outcome, call
from tasks import (
    ANNOTATOR,
    CLASSIFIER,
    DETECTOR,
    SEGMENTER,
    TOKEN_LABELS,
    write_classes,
    write_scenes,
)

CLASSES = dict(tiny=('class0', 'class1', 'class2'), detector=('a', 'b'), segmenter=('a', 'b'))
CONFIGS = dict(
    tiny=CLASSIFIER,
    annotator=ANNOTATOR,
    tokens=CLASSIFIER + TOKEN_LABELS,
    detector=DETECTOR,
    segmenter=SEGMENTER,
)


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
        write_classes(self.sound)
        write_scenes(self.sound)
        shutil.copy(self.sound / 'images/class0/0.png', self.sound / 'photo.png')
        for name, text in CONFIGS.items():
            (self.sound / f'{name}.py').write_text(text)
        outcome = call(save_weights, [], self.sound)
        assert outcome.status == 0, outcome.err
        self.expect('token_labels', ANNOTATE, self.sound)
        self.train()

    def train(self) -> None:
        """Leave a trained checkpoint and its log."""
        self.expect('train', ['tiny.py'], self.sound)
        log = next(self.sound.glob('work_dirs/tiny/*/vis_data/scalars.json'))
        shutil.copy(log, self.sound / 'scalars.json')
        shutil.copy(self.sound / 'work_dirs/tiny/epoch_3.pth', self.sound / 'trained.pth')
        shutil.rmtree(self.sound / 'work_dirs')

    def copy(self, *more: Path) -> Path:
        """A sound folder, and what lies in others, instead of the last one."""
        folder = self.root / 'try'
        shutil.rmtree(folder, ignore_errors=True)
        for source in (self.sound, *more):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        return folder

    def call(self, what, arguments: list, folder: Path, kill_after=None) -> Outcome:
        """Ours; see :func:`sandbox.call`."""
        return call(what, arguments, folder, kill_after)

    def expect(self, what, arguments: list, folder: Path) -> Outcome:
        """A call that must succeed."""
        outcome = self.call(what, arguments, folder)
        if outcome.status:
            raise RuntimeError(f'{what} {arguments}: status {outcome.status}\n{outcome.err}')
        return outcome


ANNOTATE = ['annotator.py', 'annotator.pth', 'tokens.py', '--size', '48', '--device', 'cpu']
ANNOTATE += ['--force']


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
