"""``--track``: keep a training in trackers, and go on in the same record."""

import argparse
import io
import json
import os.path as osp
from importlib.util import find_spec
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.distributed.tensor import DTensor

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis.channel_order import trained_order
from mmtlalign.apis.mixing import trace_mix
from mmtlalign.commands.visualize import draw_mix
from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

# What records: mmengine's backend, or ours on top of it.
TRACKERS = dict(
    tensorboard='TensorboardVisBackend',
    wandb='mmtlalign.WandbTracker',
    mlflow='mmtlalign.MLflowTracker',
    aim='mmtlalign.AimTracker',
)
IDS = 'trackers.json'  # in the work dir


def read_names(text: str) -> list[str]:
    """Names of trackers out of ``wandb,mlflow``; for argparse."""
    names = list(dict.fromkeys(text.split(',')))
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(TRACKERS)}")
    return names


def add_track_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--track',
        type=read_names,
        default=[],
        metavar='NAME,NAME',
        help=f'also record the training with {", ".join(TRACKERS)}: docs/tracking.md',
    )


def use_trackers(cfg: Config, names: list[str], checkpoint: dict | None) -> None:
    """Add the backends to the config's visualizer; a UserError if one is not installed."""
    check_installed(names)
    if not names:
        return
    ids = earlier_ids(cfg.work_dir, checkpoint) if cfg.get('resume') else {}
    local = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    visualizer = cfg.get('visualizer') or local
    backends = [*(visualizer.get('vis_backends') or [])]
    for name in names:
        folder = cfg.work_dir if name == 'wandb' else osp.join(cfg.work_dir, name)
        # tensorboard goes on where there are files
        run = {} if name == 'tensorboard' else dict(run_id=ids.get(name))
        backends.append(dict(type=TRACKERS[name], save_dir=folder, **run))
    cfg.visualizer = dict(visualizer, vis_backends=backends)


def check_installed(names: list[str]) -> None:
    """Raise a UserError for a tracker that is not."""
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder that a tracker made is no package
            raise UserError(f"--track {name} needs {name}: pip install 'mmtlalign[{name}]'")


def earlier_ids(work_dir: str, checkpoint: dict | None) -> dict[str, str]:
    """The ids of the training so far, of its checkpoint or its work dir; a UserError if what stands
    there is none by tracker."""
    file = Path(work_dir, IDS)
    ids = (checkpoint or {}).get('meta', {}).get('trackers')
    try:
        ids = ids or (json.loads(file.read_text()) if file.is_file() else {})
        if all(isinstance(value, str) for value in ids.values()):
            return ids
    except (ValueError, AttributeError):
        pass
    raise UserError(
        f"the checkpoint's trackers, or '{file}', are no ids by tracker; leave --track out, or "
        'resume another checkpoint'
    )


class TrackRun(Hook):
    """Keep the ids of a run in some trackers, and draw how labels move when it ends."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.ids: dict[str, str] = {}

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write the ids; that the config is recorded has opened the records."""
        for name in self.names:
            backend = runner.visualizer.get_backend(TRACKERS[name].split('.')[-1])
            if hasattr(backend, 'run_id'):
                self.ids[name] = backend.run_id
        write_whole(Path(runner.work_dir, IDS), json.dumps(self.ids) + '\n')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the ids."""
        checkpoint['meta']['trackers'] = self.ids

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Record the picture of two validation images, if there can be one."""
        model = getattr(runner.model, 'module', runner.model)
        dataset = runner.val_dataloader.dataset if runner.val_loop else []
        try:
            if any(isinstance(weight, DTensor) for weight in model.parameters()):
                raise ValueError('one process has not all weights')
            LabelTrace(model.backbone)
            if len(dataset) < 2 or not hasattr(model.head, 'num_classes'):
                raise ValueError('it is of two validation images')
        except (AttributeError, TypeError, ValueError) as error:
            print_log(f'no alignment picture: {error}', logger='current')
            return
        picture = draw(model, [dataset[0], dataset[len(dataset) // 2]], runner.cfg)
        runner.visualizer.add_image('alignment', picture, step=runner.iter)


def draw(model: BaseModel, samples: list[dict], cfg: Config) -> np.ndarray:
    """The alignment picture of a model and two samples, (H, W, 3) uint8 RGB."""
    was_training = model.training
    found = trace_mix(model.eval(), pseudo_collate(samples), order=trained_order(cfg))
    model.train(was_training)
    figure = draw_mix(found, Path(cfg.filename or 'training').stem)
    png = io.BytesIO()
    figure.savefig(png, format='png', dpi=110)
    return mmcv.imfrombytes(png.getvalue(), channel_order='rgb')
