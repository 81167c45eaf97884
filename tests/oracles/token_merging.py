"""Vision transformers that merge tokens, the slow way.

Written from ToMe (arXiv 2210.09461) and EViT (arXiv 2202.07800). Attention is
an explicit matrix, tokens are matched in loops over single numbers, and every
token carries a label per class. Nothing of the package is imported.

Shape letters: B samples, N tokens, K classes, C channels.
"""

import math

import torch


@torch.no_grad()
def merging_vit(backbone, images, token_labels, choose, proportional=True, contribution=False):
    """Forward of a ViT that merges tokens in every block.

    Args:
        backbone (nn.Module): A ``VisionTransformer``, ``DeiT3``,
            ``DistilledVisionTransformer`` or ``LVViT`` in float64, in eval
            mode, that returns its class tokens or the mean over patches.
        images (Tensor): (B, 3, H, W), float64.
        token_labels (Tensor): (B, rows, cols, K).
        choose (Callable): ``(block, keys (N, D), seen (N,))`` of one sample
            -> groups: for every new token a list of pairs (old token, weight)
            where the weight None stands for the size; and whether features
            are summed instead of averaged.
        proportional (bool): Whether log sizes are added to scores.
        contribution (bool): Whether labels follow what the images contribute
            to the residual stream (their projection) instead of half of what
            is attended to.

    Returns:
        tuple: features of the last block, list of labels (B, N, K) after each
        block, label of what the head reads (B, K), sizes (B, N).
    """
    results = [
        _one(backbone, image[None], labels.flatten(0, 1), choose, proportional, contribution)
        for image, labels in zip(images, token_labels)
    ]
    features, blocks, outputs, sizes = zip(*results)
    return (
        tuple(map(torch.cat, zip(*features))),
        [torch.stack(block) for block in zip(*blocks)],
        torch.stack(outputs),
        torch.stack(sizes),
    )


def _one(backbone, image, labels, choose, proportional, contribution):
    x, labels = _embed(backbone, image, labels)
    extra = backbone.num_extra_tokens
    sizes = torch.ones(len(x), dtype=x.dtype)
    blocks = []
    is_deit3 = type(backbone).__name__ == 'DeiT3'
    for index, layer in enumerate(backbone.layers):
        query, key, value, matrix = _attention(layer.attn, layer.ln1(x), sizes, proportional)
        mixed = torch.cat(list(matrix @ value), dim=-1)
        if contribution:
            labels = _contribution(layer.attn, x, value, matrix, labels)
        else:
            labels = (labels + matrix.mean(0) @ labels) / 2
        x = x + _after(layer.attn, layer.attn.proj(mixed))
        groups, summed = choose(index, key.mean(0), matrix.mean(0)[0])
        x, labels, sizes = _merge(x, labels, sizes, groups, summed)
        norm = layer.ln1 if is_deit3 else layer.ln2
        x = layer.ffn(norm(x)[None], identity=x[None])[0]
        blocks.append(labels)
    x = backbone.ln1(x)
    if backbone.out_type == 'cls_token':
        features = tuple(x[:extra, None])
        return features, blocks, labels[:extra].mean(0), sizes
    part = sizes[extra:] / sizes[extra:].sum()
    features = (backbone.ln2(part @ x[extra:])[None],)
    return features, blocks, part @ labels[extra:], sizes


def _embed(backbone, image, labels):
    """Tokens (N, C) and their labels (N, K), extra tokens first."""
    tokens = backbone.patch_embed(image)[0][0]
    extra = [backbone.cls_token[0]] if backbone.cls_token is not None else []
    if hasattr(backbone, 'dist_token'):
        extra.append(backbone.dist_token[0])
    if type(backbone).__name__ == 'DeiT3':
        tokens = torch.cat(extra + [tokens + backbone.pos_embed[0]])
    else:
        tokens = torch.cat(extra + [tokens]) + backbone.pos_embed[0]
    mean = labels.mean(0, keepdim=True)
    return tokens, torch.cat([mean] * len(extra) + [labels])


def _attention(attn, x, sizes, proportional):
    """Query, key and value (heads, N, D) and the matrix (heads, N, N)."""
    heads = attn.num_heads
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in attn.qkv(x).chunk(3, dim=-1)
    )
    scores = query @ key.transpose(1, 2) / math.sqrt(query.size(-1))
    if proportional:
        scores = scores + sizes.log()
    exp = (scores - scores.max()).exp()
    return query, key, value, exp / exp.sum(-1, keepdim=True)


def _after(attn, branch):
    return attn.out_drop(attn.gamma1(branch))


def _contribution(attn, x, value, matrix, labels):
    """Labels by the projection of every class's part on the whole."""
    proj = attn.proj
    mixed = torch.cat(list(matrix @ value), dim=-1)
    whole = x + _after(attn, proj(mixed))
    moved = []
    for label in labels.T:
        part = torch.cat(list(matrix @ (label[:, None] * value)), dim=-1)
        bias = (matrix.mean(0) @ label)[:, None] * proj.bias
        own = label[:, None] * x + _after(attn, part @ proj.weight.T + bias)
        moved.append((own * whole).sum(-1) / (whole * whole).sum(-1))
    return torch.stack(moved, dim=-1)


def _merge(x, labels, sizes, groups, summed):
    rows, label_rows, new_sizes = [], [], []
    for group in groups:
        weights = [sizes[old] if w is None else w for old, w in group]
        total = sum(weights)
        row = sum(w * x[old] for w, (old, _) in zip(weights, group))
        label = sum(w * labels[old] for w, (old, _) in zip(weights, group))
        rows.append(row if summed and len(group) > 1 else row / total)
        label_rows.append(label / total)
        new_sizes.append(sum(sizes[old] for old, _ in group))
    return (torch.stack(rows), torch.stack(label_rows), torch.stack(new_sizes))


def similar_tokens(amounts, extra):
    """``choose`` of ToMe: ``amounts[block]`` pairs of similar tokens.

    Args:
        amounts (list[int]): How many tokens each block merges.
        extra (int): Leading tokens that take no part.
    """

    def choose(block, keys, seen):
        num = len(keys)
        count = min(amounts[block], (num - extra) // 2)
        if count == 0:
            return [[(token, None)] for token in range(num)], False
        candidates = []
        for a in range(0, num, 2):
            if a < extra:
                continue
            best = max(
                (torch.cosine_similarity(keys[a], keys[b], dim=0).item(), b)
                for b in range(1, num, 2)
                if b >= extra
            )
            candidates.append((*best, a))
        candidates.sort(reverse=True)
        into = {a: b for _, b, a in candidates[:count]}
        order = list(range(extra))
        order += [a for a in range(0, num, 2) if a >= extra and a not in into]
        order += [b for b in range(1, num, 2) if b >= extra]
        return [
            [(new, None)] + [(a, None) for a, b in into.items() if b == new] for new in order
        ], False

    return choose


def attended_tokens(keep_rate, blocks, extra):
    """``choose`` of EViT: the part ``keep_rate`` of the patches that the
    class token sees most, and one token for the rest."""

    def choose(block, keys, seen):
        num = len(keys)
        kept = list(range(extra, num))
        if block in blocks:
            kept.sort(key=lambda token: -seen[token])
            kept = sorted(kept[: math.ceil(keep_rate * len(kept))])
        groups = [[(token, 1.0)] for token in [*range(extra), *kept]]
        rest = [token for token in range(extra, num) if token not in kept]
        if rest:
            groups.append([(token, seen[token]) for token in rest])
        return groups, True

    return choose
