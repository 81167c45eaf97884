"""Dense labels through the HiViT of mmpretrain; imports nothing of ours."""

import torch


def hivit_labels(backbone, images, token_labels):
    """Labels after each main block (B, N, K), and their mean at the end.

    Before the main stage no module may see two patches at once, which is
    checked by changing one patch.

    Args:
        backbone (nn.Module): A ``HiViT`` in the precision of ``images``.
        images (Tensor): (B, 3, H, W).
        token_labels (Tensor): (B, rows, cols, K).
    """
    main = backbone.blocks[-backbone.num_main_blocks :]
    inputs = []
    for block in main:
        block.attn.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    stem = backbone.patch_embed.proj
    if stem.stride == stem.kernel_size:
        _assert_apart(backbone, images)
    backbone(images)

    labels, blocks = token_labels.flatten(1, 2), []
    for block, x in zip(main, inputs, strict=True):
        weights = _matrix(block.attn, x, backbone.rpe).mean(1)
        labels = (labels + torch.einsum('bij,bjk->bik', weights, labels)) / 2
        blocks.append(labels)
    return blocks, labels.mean(1)


def _matrix(attn, x, has_bias):
    """Attention (B, h, N, N)."""
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    query, key, _ = qkv.unbind(2)
    logits = torch.einsum('bihc,bjhc->bhij', query, key) * attn.scale
    if has_bias:
        side = attn.input_size
        places = [(y, x) for y in range(side) for x in range(side)]
        index = [
            [(y - v + side - 1) * (2 * side - 1) + x - u + side - 1 for v, u in places]
            for y, x in places
        ]
        table = attn.relative_position_bias_table
        logits = logits + table[torch.tensor(index)].permute(2, 0, 1)
    return logits.softmax(-1)


def _assert_apart(backbone, images):
    """The top left patch reaches its own token only."""

    def tokens(images):
        x = backbone.patch_embed(images)
        for block in backbone.blocks[: -backbone.num_main_blocks]:
            x = block(x)
        return x.flatten(2)

    changed = images.clone()
    changed[..., : backbone.patch_size, : backbone.patch_size] += 1
    differs = (tokens(changed) != tokens(images)).any(2)
    assert differs[:, 0].all() and not differs[:, 1:].any()
