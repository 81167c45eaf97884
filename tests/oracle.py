"""Token labels moved the slow way: the oracle of the alignment tests.

Every token carries one number per class here, where the package carries a
single share. The stock backbone runs untouched; the inputs of its attention
modules are recorded, their attention matrices rebuilt from the weights, and
the labels moved along explicit lists of positions. Nothing of the package is
imported, so that an error in it cannot hide here as well.

Shape letters: B samples, N tokens, K classes, W windows, P positions in one
window, h heads, C channels.
"""

import copy

import torch
from mmpretrain.models.utils import WindowMSAV2
from torch.nn import functional as F


def dense_labels(backbone, images, token_labels, dtype=torch.float64):
    """Move dense labels through a stock mmpretrain backbone.

    Args:
        backbone (nn.Module): A stock ``VisionTransformer``, ``DistilledVisionTransformer``,
            ``DeiT3``, ``SwinTransformer`` or ``SwinTransformerV2``. A copy of it is run.
        images (Tensor): Mixed images (B, 3, H, W).
        token_labels (Tensor): Label of every patch (B, rows, cols, K).
        dtype (torch.dtype): Type of all arithmetic, features included.
            Defaults to ``torch.float64``.

    Returns:
        tuple[list[Tensor], Tensor]: Labels after each block, class token
        first (B, N, K), and the label of what the head reads (B, K).
    """
    backbone = copy.deepcopy(backbone).to(dtype)
    is_swin = hasattr(backbone, 'stages')
    layers = (
        backbone.layers
        if not is_swin
        else [block for stage in backbone.stages for block in stage.blocks]
    )
    calls = []
    for layer in layers:
        layer.attn.register_forward_pre_hook(lambda _, args: calls.append(args))
    with torch.no_grad():
        backbone(images.to(dtype))
        move = _move_swin if is_swin else _move_vit
        return move(backbone, calls, token_labels.to(dtype))


def dense_step(backbone, images, token_labels):
    """One plain vectorised forward of a ViT that carries dense labels.

    The straightforward implementation, there to be timed against: the
    attention matrix is built, used for the features and, detached, for the labels.

    Args:
        backbone (nn.Module): A stock ``VisionTransformer`` or ``DeiT3``.
        images (Tensor): Mixed images (B, 3, H, W).
        token_labels (Tensor): Label of every patch (B, rows, cols, K).

    Returns:
        tuple[tuple[Tensor], Tensor]: What the backbone returns, and the
        labels of all tokens after the last block (B, N, K).
    """
    labels = _start(token_labels, backbone.num_extra_tokens)

    def attend(query, key, value, **kwargs):
        nonlocal labels
        scale = query.shape[-1] ** -0.5
        weights = (scale * query @ key.transpose(-2, -1)).softmax(-1)
        labels = (weights.detach().mean(1) @ labels + labels) / 2
        return weights @ value

    modules = [layer.attn for layer in backbone.layers]
    stock = [attn.scaled_dot_product_attention for attn in modules]
    try:
        for attn in modules:
            attn.scaled_dot_product_attention = attend
        return backbone(images), labels
    finally:
        for attn, attention in zip(modules, stock):
            attn.scaled_dot_product_attention = attention


def _start(token_labels, num_extra_tokens):
    """Patch labels, preceded by their mean once per extra token."""
    patches = token_labels.flatten(1, 2)
    mean = patches.mean(1, keepdim=True)
    return torch.cat([mean] * num_extra_tokens + [patches], 1)


def _move_vit(backbone, calls, token_labels):
    """Follow the layers of a plain vision transformer."""
    extra = backbone.num_extra_tokens
    labels = _start(token_labels, extra)
    blocks = []
    for layer, (x,) in zip(backbone.layers, calls, strict=True):
        weights = _global_attention(layer.attn, x)
        mixed = torch.einsum('bij,bjk->bik', weights, labels)
        labels = (labels + mixed) / 2
        blocks.append(labels)

    read = blocks[max(backbone.out_indices)]
    if backbone.out_type == 'cls_token':
        # one class token, or the distilled pair, which the head averages
        return blocks, read[:, :extra].mean(1)
    if backbone.out_type == 'raw' and extra:
        return blocks, read[:, 0]
    return blocks, read[:, extra:].mean(1)


def _global_attention(attn, x):
    """Head mean (B, N, N) of the matrix of a ``MultiheadAttention``."""
    qkv = attn.qkv(x).view(*x.shape[:2], 3, attn.num_heads, attn.head_dims)
    query, key, _ = qkv.unbind(2)
    logits = torch.einsum('bihc,bjhc->bhij', query, key)
    return (logits / attn.head_dims**0.5).softmax(-1).mean(1)


def _move_swin(backbone, calls, token_labels):
    """Follow the stages of a Swin transformer, first or second version."""
    labels, hw = token_labels.flatten(1, 2), token_labels.shape[1:3]
    calls = iter(calls)
    merges_first = type(backbone).__name__ == 'SwinTransformerV2'
    merges_before_output = getattr(backbone, 'out_after_downsample', False)
    blocks = []
    for number, stage in enumerate(backbone.stages):
        if stage.downsample and merges_first:
            labels, hw = _merge(stage.downsample, labels, hw)
        for block in stage.blocks:
            x, seen_hw = next(calls)
            assert tuple(seen_hw) == tuple(hw)
            labels = (labels + _window_mix(block.attn, x, labels, hw)) / 2
            blocks.append(labels)
        output = labels
        if stage.downsample and not merges_first:
            labels, hw = _merge(stage.downsample, labels, hw)
        if merges_before_output:
            output = labels
        if number == max(backbone.out_indices):
            aligned = output.mean(1)
    return blocks, aligned


def _window_mix(attn, x, labels, hw):
    """Labels (B, N, K) mixed inside the windows of a ``ShiftWindowMSA``."""
    shift = attn.shift_size
    if min(hw) == attn.window_size and not attn.pad_small_map:
        shift = 0
    tokens, zones = _windows(*hw, attn.window_size, shift)
    is_real = tokens >= 0
    weights = _window_attention(attn.w_msa, _gather(x, tokens), zones)
    weights = weights * is_real[:, None, :]
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = torch.einsum('bwij,bwjk->bwik', weights, _gather(labels, tokens))
    out = torch.empty_like(labels)
    out[:, tokens[is_real]] = mixed[:, is_real]
    return out


def _windows(height, width, size, shift):
    """Where the positions of every window come from.

    Returns:
        tuple[Tensor, Tensor]: Number of the token shown at each position, -1 where it is padding,
        and the zone of each position; attention is masked between zones. Both (W, P).
    """
    padded_height, padded_width = (-(-side // size) * size for side in (height, width))

    def zone(position, length):
        if not shift:
            return 0
        return (position >= length - size) + (position >= length - shift)

    tokens, zones = [], []
    for top in range(0, padded_height, size):
        for left in range(0, padded_width, size):
            tokens.append([])
            zones.append([])
            for row in range(top, top + size):
                for col in range(left, left + size):
                    y = (row + shift) % padded_height
                    x = (col + shift) % padded_width
                    real = y < height and x < width
                    tokens[-1].append(y * width + x if real else -1)
                    zones[-1].append(3 * zone(row, padded_height) + zone(col, padded_width))
    return torch.tensor(tokens), torch.tensor(zones)


def _gather(x, tokens):
    """Rows of x (B, N, C) by number (B, W, P, C), zeros for number -1."""
    return F.pad(x, (0, 0, 0, 1))[:, tokens]


def _window_attention(w_msa, x, zones, by_head=False):
    """Head mean (B, W, P, P), or (B, W, h, P, P), of the matrix of a window attention."""
    heads, (rows, cols) = w_msa.num_heads, w_msa.window_size
    if isinstance(w_msa, WindowMSAV2):
        bias = None
        if w_msa.q_bias is not None:
            key_bias = torch.zeros_like(w_msa.q_bias)
            bias = torch.cat([w_msa.q_bias, key_bias, w_msa.v_bias])
        qkv = F.linear(x, w_msa.qkv.weight, bias)
        table = w_msa.cpb_mlp(w_msa.relative_coords_table).view(-1, heads)
        table = 16 * table.sigmoid()
    else:
        qkv = w_msa.qkv(x)
        table = w_msa.relative_position_bias_table
    query, key, _ = qkv.unflatten(-1, (3, heads, -1)).unbind(-3)
    if isinstance(w_msa, WindowMSAV2):
        # cosine attention; the temperature is bounded by 100
        query = query / query.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        key = key / key.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        scale = w_msa.logit_scale.exp().clamp(max=100.0)
    else:
        scale = w_msa.scale
    logits = scale * torch.einsum('bwihc,bwjhc->bwhij', query, key)

    places = [(row, col) for row in range(rows) for col in range(cols)]
    offsets = [
        [(y - v + rows - 1) * (2 * cols - 1) + x - u + cols - 1 for v, u in places]
        for y, x in places
    ]
    logits = logits + table[torch.tensor(offsets)].permute(2, 0, 1)
    apart = zones[:, :, None] != zones[:, None, :]
    logits = logits - 100.0 * apart[:, None]
    weights = logits.softmax(-1)
    return weights if by_head else weights.mean(2)


def _merge(downsample, labels, hw):
    """Mean over the real tokens that a ``PatchMerging`` joins.

    Returns:
        tuple[Tensor, tuple[int, int]]: Merged labels (B, N, K) and the rows and columns they form.
    """
    sampler, padding = downsample.sampler, downsample.adaptive_padding
    lists, out_hw = [], []
    for axis, length in enumerate(hw):
        kernel, stride = sampler.kernel_size[axis], sampler.stride[axis]
        span = (kernel - 1) * sampler.dilation[axis] + 1
        if padding:
            count = -(-length // stride)
            missing = max((count - 1) * stride + span - length, 0)
            before = missing // 2 if padding.padding == 'same' else 0
        else:
            before = sampler.padding[axis]
            count = (length + 2 * before - span) // stride + 1
        places = [
            [i * stride - before + j * sampler.dilation[axis] for j in range(kernel)]
            for i in range(count)
        ]
        lists.append([[p for p in places_i if 0 <= p < length] for places_i in places])
        out_hw.append(count)
    rows, cols = lists
    merged = [
        labels[:, [y * hw[1] + x for y in ys for x in xs]].mean(1) for ys in rows for xs in cols
    ]
    return torch.stack(merged, 1), tuple(out_hw)
