"""How much faster a backbone gets with merged tokens.

Times stock and merged forwards, training steps and traced training steps in
turns, and stock once more as a null, and prints the ratio stock / merged of
the least processor time over rounds, which a busy machine moves least.

    OMP_NUM_THREADS=1 python tools/benchmarks/token_merging_speed.py --r 13
"""

import argparse
import contextlib
import time

import torch
from mmpretrain.models import VisionTransformer

from mmtlalign import LabelTrace, TokenMerging


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', default='deit-small')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--batch-size', type=int, default=4)
    parser.add_argument('--r', type=int, default=13)
    parser.add_argument('--no-proportional', action='store_true')
    parser.add_argument('--rounds', type=int, default=15)
    return parser.parse_args()


def seconds(backbone, images, context, train):
    """Processor time of a forward, or of it and the backward."""
    backbone.zero_grad(set_to_none=True)
    start = time.process_time()
    with torch.set_grad_enabled(train):
        with context:
            features = backbone(images)[-1]
        if train:
            features.square().mean().backward()
    return time.process_time() - start


def main():
    args = parse_args()
    torch.manual_seed(0)
    backbone = VisionTransformer(args.arch, img_size=args.img_size)
    images = torch.randn(args.batch_size, 3, args.img_size, args.img_size)
    share = torch.zeros(args.batch_size, *backbone.patch_resolution)
    share[:, ::2] = 1
    merging = TokenMerging(backbone, args.r, not args.no_proportional)
    trace = LabelTrace(backbone)
    merging_trace = LabelTrace(backbone, token_merging=merging)
    stock = contextlib.nullcontext
    kinds = dict(
        inference=(False, stock, lambda: merging),
        training=(True, stock, lambda: merging),
        traced=(True, lambda: trace(share), lambda: merging_trace(share)),
    )
    for kind, (train, plain, merged) in kinds.items():
        rounds = [
            [seconds(backbone, images, context(), train) for context in (plain, merged, plain)]
            for _ in range(args.rounds)
        ]
        first, fewer, second = map(min, zip(*rounds))
        print(f'{kind}: {min(first, second) / fewer:.3f} x (null {first / second:.3f})', flush=True)


if __name__ == '__main__':
    main()
