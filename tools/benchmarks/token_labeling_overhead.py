"""What token labels cost: time of the pipeline and of a step, as ratios.

- *pipeline*: one image of ImageNet's usual size through the training pipeline
  of LV-ViT-S, with its map, against the same pipeline and draws without.
- *step*: one training step of LV-ViT-S with MixToken, expanded maps and the
  dense head, against CutMix and the class head alone. From normalisation to
  AdamW.

Measured and judged as by alignment_overhead.py. Run it with idle threads asleep:

    OMP_WAIT_POLICY=PASSIVE python tools/benchmarks/token_labeling_overhead.py
"""

import argparse
import logging
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from mmtlalign.commands.start_up_noise import silence_known_noise

silence_known_noise()  # before the hosts are imported, which make it
logging.disable(logging.INFO)  # options of every parameter

import alignment_overhead as overhead  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import Compose  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmpretrain.registry import MODELS, TRANSFORMS  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402
from mmpretrain.utils import register_all_modules  # noqa: E402

from mmtlalign.datasets import TokenLabels, TokenLabelStore  # noqa: E402
from mmtlalign.models import LVViT  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / ('configs/classification/tokenlabel/tokenlabel_lvvit-small_8xb128_in1k.py')
GRID, TOP_K, CLASSES = (18, 18), 5, 1000  # as the docs suggest for ImageNet
IMAGE_SIZE = (375, 500)  # the most frequent one of ImageNet
NUM_IMAGES = 32


def random_maps(count: int, rng: np.random.Generator):
    """Classes and probabilities; a map has some 60 classes in patches."""
    coarse = rng.integers(0, CLASSES, (count, 3, 3, TOP_K))
    ids = coarse.repeat(6, axis=1).repeat(6, axis=2)
    ids = (ids + np.arange(TOP_K) * 7 + rng.integers(0, 3, ids.shape) * CLASSES // 3) % CLASSES
    scores = np.sort(rng.dirichlet(np.full(TOP_K + 1, 0.3), ids.shape[:3]))[..., :0:-1]
    return ids, scores


def pipelines(folder: Path) -> tuple[Callable, Callable]:
    """Without and with labels: load one set of images, given a round's number."""
    rng = np.random.default_rng(0)
    names = [f'{i}.jpg' for i in range(NUM_IMAGES)]
    for name in names:  # smooth shapes and some noise, as in photographs
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = cv2.resize(coarse, IMAGE_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 6, image.shape)
        cv2.imwrite(str(folder / name), (image + noise).clip(0, 255))
    store = TokenLabelStore.create(
        str(folder / 'maps'), names, [str(i) for i in range(CLASSES)], GRID, TOP_K
    )
    store.write(np.arange(NUM_IMAGES), *random_maps(NUM_IMAGES, rng))
    steps = Config.fromfile(CONFIG).train_pipeline
    steps[1].store = str(folder / 'maps')
    plain, labelled = (
        Compose([TRANSFORMS.build(step) for step in chosen])
        for chosen in ([steps[0], *steps[2:]], steps)
    )

    def run(pipeline: Compose, number: int) -> np.ndarray:
        start = overhead.clocks()
        for i, name in enumerate(names):
            seed = number * NUM_IMAGES + i  # the same operations in each
            random.seed(seed)
            np.random.seed(seed)
            pipeline(dict(img_path=str(folder / name), sample_idx=i, gt_label=0))
        return overhead.clocks() - start

    return partial(run, plain), partial(run, labelled)


def steps(args: argparse.Namespace) -> tuple[Callable, Callable]:
    """Without and with labels: make one training step, given a round's number."""
    built = {}
    for name in ('plain', 'labels'):
        config = Config.fromfile(CONFIG)
        if name == 'plain':
            config.merge_from_dict(
                {
                    'model.type': 'mmtlalign.TLAlignClassifier',
                    'model.backbone.out_type': 'cls_token',
                    'model.head.type': 'mmtlalign.TLAlignVisionTransformerClsHead',
                    'model.train_cfg.augments': [dict(type='mmtlalign.TokenCutMix', patch_size=16)],
                }
            )
        arch = dict(LVViT.arch_zoo['small'])
        arch['num_layers'] = args.depth or arch['num_layers']
        config.model.backbone.arch = arch
        config.model.data_preprocessor = config.data_preprocessor
        model = MODELS.build(config.model).to(args.device).train()
        model.init_weights()
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
        built[name] = (model, optimizer)

    images = torch.randint(0, 256, (args.batch_size, 3, 224, 224), dtype=torch.uint8)
    rng = np.random.default_rng(0)
    ids, scores = random_maps(args.batch_size, rng)

    def run(name: str, number: int) -> np.ndarray:
        start, samples = overhead.clocks(), []
        for i in range(args.batch_size):
            sample = DataSample().set_gt_label(i)
            if name == 'labels':
                sample.token_labels = TokenLabels(
                    ids[i].astype(np.int16),
                    scores[i].astype(np.float16),
                    np.array([1.5, 2.5, 14, 16.2], np.float32),
                    (224, 224),
                    CLASSES,
                )
            samples.append(sample)
        model, optimizer = built[name]
        model.train_step(dict(inputs=images.clone(), data_samples=samples), optimizer)
        if args.device == 'cuda':
            torch.cuda.synchronize()
        return overhead.clocks() - start

    return partial(run, 'plain'), partial(run, 'labels')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--cases', nargs='+', default=['pipeline', 'step'], choices=['pipeline', 'step']
    )
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--depth', type=int, default=0, help='blocks of LV-ViT-S (0: all 16)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    register_all_modules(init_default_scope=True)
    about = f'float32, batch {args.batch_size}, {args.rounds} rounds; ratios to stock, without'
    overhead.print_head(about, 'stock, ms', args.device, args.threads)
    with tempfile.TemporaryDirectory() as folder:
        for case in args.cases:
            plain, labels = pipelines(Path(folder)) if case == 'pipeline' else steps(args)
            variants = {overhead.STOCK: plain, overhead.NULL: plain, 'labels': labels}
            overhead.report_seconds(case, overhead.interleave(variants, args.rounds, case))


if __name__ == '__main__':
    main()
