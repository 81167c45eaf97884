"""The same tried against stock mmpretrain's own tools, where it means the same.

Nothing of ours is imported into their processes.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import entry_points
import mmpretrain
from bench import Bench, dump_config
from mmpretrain.utils import register_all_modules
from sandbox import Outcome, call
from tasks import CLASSIFIER

TOOLS = Path(mmpretrain.__file__).parent / '.mim/tools'
# The tiny config in stock parts, whose loaders need one more entry (docs/host_faults.md).
CONFIG = CLASSIFIER
for part, theirs in {
    'mmtlalign.TLAlignClassifier': 'ImageClassifier',
    'mmtlalign.TLAlignVisionTransformerClsHead': 'VisionTransformerClsHead',
    "'mmtlalign.TokenCutMix', patch_size=4": "'CutMix', alpha=1.",
    "dict(type='mmtlalign.ResumeRandomState')": '',
    'num_workers=0': 'num_workers=0, persistent_workers=False',
}.items():
    CONFIG = CONFIG.replace(part, theirs)
# By our command: their tool, the end of our arguments that it stands for, and its own.
CALLS = dict(
    train=('train.py', '', ''),
    test=('test.py', '', ''),
    publish=('model_converters/publish_model.py', ' out --name a', ' out'),
    curves=('analysis_tools/analyze_logs.py', '', ' --keys loss --out a.png'),
)
# Options that they lack, said otherwise.
OPTIONS = {'--extend 4': '--cfg-options train_cfg.max_epochs=4', '--no-report': ''}
# Options and files that they have nothing like.
OPTIONS_OF_OURS = ('--extend', '--accept', '--check-picture', '--out images')
FILES_OF_OURS = ('mmtlalign', 'pickled_maps', 'tokens.py', 'detector.py', 'segmenter.py')


class NotApplicable(Exception):
    """No call of theirs means the same."""


class StockBench(Bench):
    """A copy of our bench, with a stock config and what mmpretrain trained by it.

    Args:
        root (Path): Where it lies.
        ours (Bench): To copy.
    """

    def __init__(self, root: Path, ours: Bench) -> None:
        self.root, self.sound = root, root / 'sound'
        register_all_modules(init_default_scope=False)  # once, instead of in every process
        if (self.sound / 'trained.pth').exists():
            return
        shutil.rmtree(self.sound, ignore_errors=True)
        shutil.copytree(ours.sound, self.sound, ignore=shutil.ignore_patterns('trained.pth'))
        (self.sound / 'tiny.py').write_text(CONFIG)
        dump_config(self.sound)
        self.train()

    def call(self, what: str | Callable, arguments: list, folder: Path, **kill_after) -> Outcome:
        return call(*as_stock(what, arguments), folder, **kill_after)


def as_stock(what: str | Callable, arguments: list[str]) -> tuple[str | Callable, list[str]]:
    """What to call of theirs, or NotApplicable."""
    text = ' '.join(arguments)
    if what is entry_points.get_model and arguments[0].endswith('.py'):
        return get_model, arguments
    if what is entry_points.read_by_host:
        return entry_points.read, arguments
    for option, theirs in OPTIONS.items():
        text = text.replace(option, theirs)
    tool, end, its_end = CALLS.get(what, ('', '', ''))
    ours = any(part in text for part in OPTIONS_OF_OURS + FILES_OF_OURS)
    if ours or not tool or not text.endswith(end):
        raise NotApplicable
    words = (text.removesuffix(end) + its_end).split()
    return str(TOOLS / tool), ['plot_curve', *words] if what == 'curves' else words


def get_model(config: str, checkpoint: str) -> None:
    """From Python, instead of a tool."""
    mmpretrain.get_model(config, pretrained=checkpoint)
