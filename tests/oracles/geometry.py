"""Where tokens lie, by explicit lists of their numbers, for the oracles.

Shape letters: B samples, N tokens, K classes, W windows, P positions in one
window, h heads, C channels.
"""

import torch
from torch.nn import functional as F


def record(backbone, images, modules):
    """Positional arguments of one call of each module, in their order."""
    calls, handles = {}, []
    for module in modules:
        handles.append(
            module.register_forward_pre_hook(lambda module, args: calls.update({id(module): args}))
        )
    backbone(images)
    for handle in handles:
        handle.remove()
    return [calls[id(module)] for module in modules]


def start(token_labels, num_extra_tokens=0):
    """Patch labels (B, rows, cols, K), preceded by their mean once per extra token."""
    patches = token_labels.flatten(1, 2)
    mean = patches.mean(1, keepdim=True)
    return torch.cat([mean] * num_extra_tokens + [patches], 1)


def walk(backbone, images, labels, grid, stages, mix, merge=None):
    """Labels (B, N, K) moved through stages of blocks, by half in each.

    Args:
        stages (list[list[nn.Module]]): What attends, or the blocks around it.
        mix (Callable): ``(module, x, labels, grid)`` -> what tokens attend to (B, N, K), where the
            module is given x.
        merge (Callable, optional): ``(number, labels, grid)`` -> labels and grid with which stages
            but the first begin.

    Returns:
        tuple: labels after each block, and labels and grid after each stage.
    """
    calls, steps, ends = iter(record(backbone, images, sum(stages, []))), [], []
    for number, modules in enumerate(stages):
        if number:
            labels, grid = merge(number, labels, grid)
        for module in modules:
            labels = (labels + mix(module, next(calls)[0], labels, grid)) / 2
            steps.append(labels)
        ends.append((labels, grid))
    return steps, ends


def pyramid(backbone, images, token_labels, stages, mix, merge):
    """:func:`walk` from patch labels (B, rows, cols, K): labels after each block, and their mean
    after the last stage that is read."""
    grid = token_labels.shape[1:3]
    steps, ends = walk(backbone, images, start(token_labels), grid, stages, mix, merge)
    last = max(getattr(backbone, 'out_indices', [len(stages) - 1]))
    return steps, ends[last][0].mean(1)


def read(backbone, labels, num_extra_tokens):
    """What the head of a ViT of mmpretrain reads; of a distilled pair the average."""
    if num_extra_tokens and backbone.out_type in ('cls_token', 'raw'):
        count = num_extra_tokens if backbone.out_type == 'cls_token' else 1
        return labels[:, :count].mean(1)
    return labels[:, num_extra_tokens:].mean(1)


def offsets(rows, cols):
    """Row of a table of relative positions for each pair of places (P, P)."""
    places = [(y, x) for y in range(rows) for x in range(cols)]
    return torch.tensor(
        [
            [(y - v + rows - 1) * (2 * cols - 1) + x - u + cols - 1 for v, u in places]
            for y, x in places
        ]
    )


def split_heads(x, num_heads):
    """(..., N, C) -> (..., h, N, C / h)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def query_key_value(packed, num_heads):
    """(..., N, 3 C) -> three of (..., h, N, C / h)."""
    return [split_heads(x, num_heads) for x in packed.chunk(3, dim=-1)]


def softmax_of(query, key, factor=None, bias=0.0):
    """Matrix (..., h, N, M) of query (..., h, N, c) and key (..., h, M, c)."""
    factor = query.shape[-1] ** -0.5 if factor is None else factor
    return (factor * torch.einsum('...ic,...jc->...ij', query, key) + bias).softmax(-1)


def attend(matrix, labels):
    """Head mean of a matrix (B, h, N, M) times labels (B, M, K)."""
    return torch.einsum('bij,bjk->bik', matrix.mean(1), labels)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def pool(labels, grid, kernel, stride, padding=0, corner=False):
    """Mean over the real tokens of every cell.

    Args:
        corner (bool): Fill up below and to the right until every token is in
            a cell, as the hosts' ``padding='corner'`` does.

    Returns:
        tuple[Tensor, tuple[int, int]]: (B, n, K) and the new grid.
    """
    places, out_grid = [], []
    for side, k, s, p in zip(grid, pair(kernel), pair(stride), pair(padding)):
        count = -(-side // s) if corner else (side + 2 * p - k) // s + 1
        places.append(
            [[i * s - p + j for j in range(k) if 0 <= i * s - p + j < side] for i in range(count)]
        )
        out_grid.append(count)
    rows, cols = places
    pooled = [
        labels[:, [y * grid[1] + x for y in ys for x in xs]].mean(1) for ys in rows for xs in cols
    ]
    return torch.stack(pooled, 1), tuple(out_grid)


def windows(grid, size):
    """Number of the token at each position of each window (W, P), -1 where
    it is padding."""
    return shifted_windows(grid, size, 0)[0]


def reduced(attn, x, labels, grid):
    """Labels and features (B, M, ...) of the keys of attention that a strided convolution ``sr``
    pools from tokens (B, N, ...)."""
    ratio = attn.sr_ratio
    if ratio == 1:
        return labels, x
    maps = x.transpose(1, 2).unflatten(2, tuple(grid))
    source = F.conv2d(maps, attn.sr.weight, attn.sr.bias, stride=ratio)
    return pool(labels, grid, ratio, ratio)[0], attn.norm(source.flatten(2).transpose(1, 2))


def shifted_windows(grid, size, shift, pads_first=True):
    """The same of a map that is shifted, and the zone of each position (W, P);
    attention is masked between zones.

    Args:
        pads_first (bool): Whether the map is padded before it is shifted, as in
            mmpretrain, or after, as in timm. Defaults to True.
    """
    padded = [-(-side // size) * size for side in grid]
    turned = padded if pads_first else grid

    def zone(position, length):
        return 0 if not shift else (position >= length - size) + (position >= length - shift)

    tokens, zones = [], []
    for top in range(0, padded[0], size):
        for left in range(0, padded[1], size):
            cells = [(y, x) for y in range(top, top + size) for x in range(left, left + size)]
            places = [((y + shift) % turned[0], (x + shift) % turned[1]) for y, x in cells]
            real = [y < grid[0] and x < grid[1] for y, x in (places if pads_first else cells)]
            tokens.append([y * grid[1] + x if r else -1 for (y, x), r in zip(places, real)])
            zones.append([3 * zone(y, padded[0]) + zone(x, padded[1]) for y, x in cells])
    return torch.tensor(tokens), torch.tensor(zones)


def gather(x, tokens):
    """Rows of x (B, N, C) by number (B, W, P, C), zeros for number -1."""
    return F.pad(x, (0, 0, 0, 1))[:, tokens]


def attend_windows(matrix, labels, tokens):
    """Labels (B, N, K) mixed by matrices (B, W, h, P, P) of windows, whose
    rows are renormalised over real tokens."""
    is_real = tokens >= 0
    weights = matrix.mean(2) * is_real[:, None, :]
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = torch.einsum('bwij,bwjk->bwik', weights, gather(labels, tokens))
    out = torch.empty_like(labels)
    out[:, tokens[is_real]] = mixed[:, is_real]
    return out


def resize_table(table, length):
    """Relative positions (L, c), linearly interpolated to another length as
    ``F.interpolate`` does without aligned corners."""
    old = table.shape[0]
    rows = []
    for i in range(length):
        place = min(max((i + 0.5) * old / length - 0.5, 0), old - 1)
        low = int(place)
        high = min(low + 1, old - 1)
        rows.append(table[low] + (place - low) * (table[high] - table[low]))
    return torch.stack(rows)


def relative_table(table, num_queries, num_keys):
    """Relative positions (L, c) of every query and key along one axis (n, m,
    c) (MViT v2, arXiv 2112.01526, section 4.1; SAM takes it over)."""
    table = resize_table(table, 2 * max(num_queries, num_keys) - 1)
    query_step = max(num_keys / num_queries, 1)
    key_step = max(num_queries / num_keys, 1)
    places = [
        [int(i * query_step - (j - num_keys + 1) * key_step) for j in range(num_keys)]
        for i in range(num_queries)
    ]
    return table[torch.tensor(places)]


def relative_logits(query, query_grid, key_grid, rows, cols):
    """What relative positions add to logits: query (..., N, c), tables of
    rows and columns (L, c) -> (..., N, M)."""
    by_row = relative_table(rows, query_grid[0], key_grid[0])
    by_col = relative_table(cols, query_grid[1], key_grid[1])
    vectors = by_row[:, None, :, None] + by_col[None, :, None]
    return torch.einsum('...ic,ijc->...ij', query, vectors.flatten(2, 3).flatten(0, 1))
