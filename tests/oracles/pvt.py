"""Dense labels through PVT, PVTv2 of mmdet and MiT of mmseg, the slow way."""

from torch.nn import functional as F

from .geometry import attend, pool, record, reduced, softmax_of, split_heads


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    stages = [
        (embed, [block.attn for block in blocks if 'Encoder' in type(block).__name__])
        for embed, blocks, _ in backbone.layers
    ]
    calls = iter(record(backbone, images, [attn for _, attns in stages for attn in attns]))
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    steps = []
    for i, (embed, attns) in enumerate(stages):
        if i:
            conv = embed.projection
            labels, grid = pool(
                labels,
                grid,
                conv.kernel_size,
                conv.stride,
                conv.padding,
                corner=bool(embed.adap_padding),
            )
        for attn in attns:
            x, hw = next(calls)
            assert tuple(hw) == tuple(grid)
            labels = (labels + _mix(attn, x, labels, grid)) / 2
            steps.append(labels)
        if i == max(backbone.out_indices):
            output = labels.mean(1)
    return steps, output


def _mix(wrapper, x, labels, grid):
    """Labels mixed by attention over pooled keys."""
    sr, norm = getattr(wrapper, 'sr', None), getattr(wrapper, 'norm', None)
    keys, source = reduced(sr, norm, x, labels, grid, wrapper.sr_ratio)
    attn, width = wrapper.attn, x.shape[-1]
    weights = attn.in_proj_weight.split(width)
    biases = (None,) * 3 if attn.in_proj_bias is None else attn.in_proj_bias.split(width)
    query = split_heads(F.linear(x, weights[0], biases[0]), attn.num_heads)
    key = split_heads(F.linear(source, weights[1], biases[1]), attn.num_heads)
    return attend(softmax_of(query, key, query.shape[-1] ** -0.5), keys)
