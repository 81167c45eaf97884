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


def split_heads(x, num_heads):
    """(B, N, C) -> (B, h, N, C / h)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def softmax_of(query, key, factor):
    """Matrix (B, h, N, M) of query (B, h, N, c) and key (B, h, M, c)."""
    logits = factor * torch.einsum('bhic,bhjc->bhij', query, key)
    return logits.softmax(-1)


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
    height, width = grid
    tokens = []
    for top in range(0, height, size):
        for left in range(0, width, size):
            tokens.append(
                [
                    y * width + x if y < height and x < width else -1
                    for y in range(top, top + size)
                    for x in range(left, left + size)
                ]
            )
    return torch.tensor(tokens)


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
    return torch.stack(
        [
            torch.stack(
                [
                    table[int(i * query_step - j * key_step + (num_keys - 1) * key_step)]
                    for j in range(num_keys)
                ]
            )
            for i in range(num_queries)
        ]
    )


def relative_logits(query, query_grid, key_grid, rows, cols):
    """What relative positions add to logits: query (..., N, c), tables of
    rows and columns (L, c) -> (..., N, M)."""
    by_row = relative_table(rows, query_grid[0], key_grid[0])
    by_col = relative_table(cols, query_grid[1], key_grid[1])
    key_rows = [y for y in range(key_grid[0]) for _ in range(key_grid[1])]
    key_cols = list(range(key_grid[1])) * key_grid[0]
    added = []
    for number in range(query_grid[0] * query_grid[1]):
        row, col = divmod(number, query_grid[1])
        vectors = by_row[row, key_rows] + by_col[col, key_cols]
        added.append(query[..., number, :] @ vectors.T)
    return torch.stack(added, -2)
