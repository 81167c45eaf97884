"""Dense labels through the PoolFormer of mmpretrain; nothing of ours."""

import torch

from .geometry import pool, start


def poolformer_labels(backbone, images, token_labels):
    """Labels after each block (B, N, K), and their mean where it is read.

    That means over neighbours are what the host pools is checked on what its
    mixers are given and return.
    """
    calls = []
    mixers = [m for m in backbone.modules() if type(m).__name__ == 'Pooling']
    for mixer in mixers:
        mixer.register_forward_hook(lambda _, args, out: calls.append((args[0], out)))
    backbone(images)

    labels, hw, blocks, calls = start(token_labels), token_labels.shape[1:3], [], iter(calls)
    for number, stage in enumerate(backbone.network):
        if isinstance(stage, torch.nn.Sequential):
            for block in stage:
                cells = block.token_mixer.pool
                window = cells.kernel_size, 1, cells.padding
                x, less = (z.flatten(2).mT for z in next(calls))
                torch.testing.assert_close(less, pool(x, hw, *window)[0] - x)
                labels = (labels + pool(labels, hw, *window)[0]) / 2
                blocks.append(labels)
        else:
            conv = stage.proj
            labels, hw = pool(labels, hw, conv.kernel_size, conv.stride, conv.padding)
        if number == max(backbone.out_indices):
            aligned = labels.mean(1)
    return blocks, aligned
