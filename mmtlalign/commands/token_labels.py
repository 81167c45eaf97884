"""Make dense top-k score maps of a data set with a trained classifier.

The classifier must end in global average pooling and one linear layer: that
layer is then applied to every position of the feature map instead of to the
mean. Images are resized whole to a square, never cropped. First it predicts
up to 1,000 labelled ones, drawn at random; if it does that no better than
chance, nothing is made.

    mmtlalign token-labels ANNOTATOR.py ANNOTATOR.pth \
        TRAINING.py --size 576

makes the maps that the training pipeline of TRAINING.py reads. A run that was
interrupted goes on where it stopped when it is started again.
"""

import argparse
import hashlib
import multiprocessing.connection
import os
import threading
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.multiprocessing import ProcessExitedException, spawn

from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import in_order, reads_files, trained_order
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.commands.checks import check_data, check_trained_classes, classes_in
from mmtlalign.commands.command_line import add_trust_argument, check_file, new_parser, number
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.datasets import TokenLabelStore, image_names
from mmtlalign.datasets.token_label_annotator import TokenLabelAnnotator
from mmtlalign.datasets.token_labels import SCORE_MODES
from mmtlalign.errors import UserError, one_line_errors
from mmtlalign.resources import check_data_of, open_config


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help="the annotator's config")
    parser.add_argument('checkpoint', help="the annotator's checkpoint")
    parser.add_argument('dataset', help='config whose training data to annotate')
    parser.add_argument(
        '--size',
        type=number(int, 1),
        required=True,
        help='edge in pixels that images are resized to; maps '
        "have this edge over the annotator's total stride",
    )
    parser.add_argument(
        '--out',
        help="folder to write (default: the one that the dataset config's LoadTokenLabels reads)",
    )
    parser.add_argument(
        '--top-k', type=number(int, 1), default=5, help='classes kept per position (default: 5)'
    )
    parser.add_argument(
        '--score-mode',
        choices=SCORE_MODES,
        default='probs',
        help='probs: probabilities (default); logits: as '
        'published, where all other classes count as logit 0',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='also with an annotator whose predictions are no better than chance',
    )
    parser.add_argument('--batch-size', type=number(int, 1), default=64)
    parser.add_argument(
        '--processes',
        type=number(int, 1),
        default=1,
        help='annotators at work at the same time, one per GPU or CPU core (default: 1)',
    )
    parser.add_argument(
        '--workers',
        type=number(int, 0),
        default=0,
        help='that load images for each of them (default: 0)',
    )
    parser.add_argument(
        '--device', help='default: cuda if there is one, else cpu; process i takes the i-th GPU'
    )
    add_trust_argument(parser)
    return parser


def open_data(args: argparse.Namespace) -> Config:
    """The config whose training data to annotate; its scope becomes the default one."""
    config = open_config(args.dataset, args.trust)
    check_data_of(config, 'train')
    use_own_loaders(config)
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    return config


def find_out(args: argparse.Namespace, config: Config) -> str:
    """The folder that the training pipeline reads."""
    for step in config.train_dataloader.dataset.get('pipeline', []):
        if step.type == 'mmtlalign.LoadTokenLabels':
            return step.store
    raise UserError(
        f"'{args.dataset}' has no mmtlalign.LoadTokenLabels in "
        'its training pipeline; name a folder with --out'
    )


def build_dataset(args: argparse.Namespace, config: Config):
    """The training data in their order, with images whole, square, and in the
    annotator's channel order."""
    cfg = config.train_dataloader.dataset
    if 'pipeline' not in cfg:
        raise UserError(
            f"the training data of '{args.dataset}' are a "
            f'{cfg.type} of other data sets; name a config that '
            'reads one data set'
        )
    check_data(config, 'train')
    cfg.pipeline = in_order(
        [
            *filter(reads_files, cfg.pipeline),
            dict(
                type='Resize',
                scale=(args.size, args.size),
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='PackInputs'),
        ],
        trained_order(open_config(args.config, args.trust)),
    )
    return DATASETS.build(cfg)


def build_annotator(args: argparse.Namespace, device: str) -> TokenLabelAnnotator:
    """The classifier with its weights."""
    model = get_model(args.config, args.checkpoint, device, trust=args.trust)
    return TokenLabelAnnotator(model, args.batch_size, args.workers)


def open_store(
    args: argparse.Namespace, annotator: TokenLabelAnnotator, dataset
) -> TokenLabelStore:
    """Hold the annotator against the data set's classes and images, and lay out the store."""
    classes = dataset.metainfo.get('classes') or ()
    trained = classes_in(load_checkpoint_safely(args.checkpoint, args.trust))
    check_trained_classes(trained, args.checkpoint, classes, args.dataset)
    count = annotator.model.head.num_classes
    if count != len(classes):
        raise UserError(f"the annotator knows {count} classes, '{args.dataset}' has {len(classes)}")
    grid = annotator.find_grid(dataset)
    accuracy = annotator.judge(dataset, args.force)
    digest = hashlib.sha256(Path(args.checkpoint).read_bytes()).hexdigest()
    return TokenLabelStore.create(
        args.out,
        image_names(dataset),
        classes,
        grid,
        min(args.top_k, len(classes)),
        args.score_mode,
        annotator=dict(config=Path(args.config).name, sha256=digest, size=args.size),
        accuracy=accuracy,
    )


def annotate_part(part: int, args: argparse.Namespace) -> None:
    """What each of several processes does."""
    with one_line_errors('mmtlalign token-labels'):
        end_with_parent()
        device = args.device
        if device == 'cuda':
            device = f'cuda:{part % torch.cuda.device_count()}'
        else:
            torch.set_num_threads(1)
        annotator, dataset = build_annotator(args, device), build_dataset(args, open_data(args))
        store = TokenLabelStore(args.out, writable=True)
        for _ in annotator.annotate(dataset, store, part, args.processes):
            pass


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however; torch's own way is SIGINT,
    which what runs in the background ignores."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()


def progress_bar() -> Progress:
    """On standard error, which may be no terminal."""
    return Progress(
        TextColumn('maps'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def annotate_in_parallel(args: argparse.Namespace, store: TokenLabelStore) -> None:
    """Start processes, which end with this one, and show what they have done.

    Raises:
        UserError: If one has failed; all are ended then.
    """
    crew = spawn(annotate_part, (args,), args.processes, join=False)
    try:
        with progress_bar() as bar:
            task = bar.add_task('', total=len(store))
            while not crew.join(timeout=0.2):
                bar.update(task, completed=int(store.done.sum()))
            bar.update(task, completed=int(store.done.sum()))
    except ProcessExitedException:
        raise UserError(
            'a process has failed, as said above; what is done is kept: start again to go on'
        ) from None
    finally:
        for process in crew.processes:
            process.terminate()


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if '://' in args.checkpoint:
        raise UserError(
            f"checkpoint '{args.checkpoint}' is no file here; download it and give its path"
        )
    check_file(args.checkpoint, 'checkpoint')
    config = open_data(args)
    args.out = args.out or find_out(args, config)
    dataset = build_dataset(args, config)
    annotator = build_annotator(args, args.device)
    store = open_store(args, annotator, dataset)
    if args.processes > 1:
        del annotator
        annotate_in_parallel(args, store)
    else:
        with progress_bar() as bar:
            task = bar.add_task('', total=len(store), completed=int(store.done.sum()))
            for count in annotator.annotate(dataset, store):
                bar.update(task, advance=count)
    rows, cols = store.index['grid']
    print(
        f'{args.out}: {len(store)} maps of {rows}x{cols}, top '
        f'{store.index["top_k"]} of {len(store.classes)} classes'
    )
