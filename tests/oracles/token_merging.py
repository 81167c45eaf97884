"""Vision transformers that merge tokens, the slow way.

Written from ToMe (arXiv 2210.09461) and EViT (arXiv 2202.07800). Attention is
an explicit matrix, tokens are matched in loops over single numbers, and every
token carries a label per class. Nothing of the package is imported.

Shape letters: B samples, N tokens, K classes, C channels.
"""

import math

import torch

from .contribution import step
from .geometry import query_key_value, record, softmax_of, start


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
            where the weight None stands for the size. Its ``summed`` says
            whether features are summed instead of averaged.
        proportional (bool): Whether log sizes are added to scores.
        contribution (bool): Whether labels follow what the images contribute
            to the residual stream (their projection) instead of half of what
            is attended to.

    Returns:
        tuple: features of the last block, list of labels (B, N, K) after each
        block, label of what the head reads (B, K), sizes (B, N).
    """
    results = [
        _one(backbone, image[None], labels[None], choose, proportional, contribution)
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
    extra = backbone.num_extra_tokens
    ((x,),) = record(backbone, image, backbone.layers[:1])
    x, labels = x[0], start(labels, extra)[0]
    sizes = torch.ones(len(x), dtype=x.dtype)
    blocks = []
    is_deit3 = type(backbone).__name__ == 'DeiT3'
    for index, layer in enumerate(backbone.layers):
        attn = layer.attn
        query, key, value = query_key_value(attn.qkv(layer.ln1(x)), attn.num_heads)
        matrix = softmax_of(query, key, None, sizes.log() if proportional else 0.0)
        after = attn.out_drop(attn.gamma1(torch.ones_like(x[0])))
        if contribution:  # every class's part
            tokens = torch.arange(len(x))[None]
            parts = x[None], tokens, matrix[None, None], value[None, None], attn.proj, after
            labels = step(labels.T, 'projection', *parts).T
        else:
            labels = (labels + matrix.mean(0) @ labels) / 2
        x = x + after * attn.proj(torch.cat(list(matrix @ value), dim=-1))
        groups = choose(index, key.mean(0), matrix.mean(0)[0])
        x, labels, sizes = _merge(x, labels, sizes, groups, choose.summed)
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
            return [[(token, None)] for token in range(num)]
        first, second = ([t for t in range(odd, num, 2) if t >= extra] for odd in (0, 1))
        candidates = []
        for a in first:
            similar = [(torch.cosine_similarity(keys[a], keys[b], dim=0).item(), b) for b in second]
            candidates.append((*max(similar), a))
        candidates.sort(reverse=True)
        into = {a: b for _, b, a in candidates[:count]}
        order = [*range(extra), *(a for a in first if a not in into), *second]
        return [[(new, None)] + [(a, None) for a, b in into.items() if b == new] for new in order]

    choose.summed = False
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
        return groups

    choose.summed = True
    return choose
