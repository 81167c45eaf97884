"""Dense labels through the PoolFormer of mmpretrain; nothing of ours."""

import torch


def poolformer_labels(backbone, images, token_labels):
    """Labels after each block (B, N, K), and their mean where it is read.

    Matrices are lists of neighbours; that they are what the host pools is
    checked on the recorded inputs of its mixers.

    Args:
        backbone (nn.Module): A ``PoolFormer`` in the precision of ``images``.
        images (Tensor): (B, 3, H, W).
        token_labels (Tensor): (B, rows, cols, K).
    """
    pooled = []
    for stage in backbone.network:
        for block in stage if isinstance(stage, torch.nn.Sequential) else ():
            block.token_mixer.register_forward_hook(
                lambda _, args, out: pooled.append((args[0], out))
            )
    backbone(images)

    labels, hw = token_labels.flatten(1, 2), token_labels.shape[1:3]
    pooled, blocks = iter(pooled), []
    for number, stage in enumerate(backbone.network):
        if isinstance(stage, torch.nn.Sequential):
            for block in stage:
                pool = block.token_mixer.pool
                matrix, same = _mean_matrix(hw, pool.kernel_size, 1, pool.padding)
                assert same == tuple(hw)
                x, less = (z.flatten(2).mT for z in next(pooled))
                torch.testing.assert_close(less, matrix @ x - x)
                labels = (labels + matrix @ labels) / 2
                blocks.append(labels)
        else:
            matrix, hw = _mean_matrix(
                hw, stage.proj.kernel_size[0], stage.proj.stride[0], stage.proj.padding[0]
            )
            labels = matrix @ labels
        if number == max(backbone.out_indices):
            aligned = labels.mean(1)
    return blocks, aligned


def _mean_matrix(hw, kernel, stride, padding):
    """Means over the real tokens of each cell, and the grid of cells."""
    counts = [(side + 2 * padding - kernel) // stride + 1 for side in hw]
    rows = []
    for i in range(counts[0]):
        for j in range(counts[1]):
            real = [
                (y, x)
                for y in range(i * stride - padding, i * stride - padding + kernel)
                for x in range(j * stride - padding, j * stride - padding + kernel)
                if 0 <= y < hw[0] and 0 <= x < hw[1]
            ]
            row = torch.zeros(hw[0] * hw[1], dtype=torch.float64)
            row[[y * hw[1] + x for y, x in real]] = 1 / len(real)
            rows.append(row)
    return torch.stack(rows), tuple(counts)
