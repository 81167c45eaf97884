"""Dense labels through the HiViT of mmpretrain; imports nothing of ours."""

import torch

from .geometry import attend, offsets, record, start


def hivit_labels(backbone, images, token_labels):
    """Labels after each main block (B, N, K), and their mean at the end.

    Before the main stage no module may see two patches at once, which is
    checked by changing one patch.
    """
    main = backbone.blocks[-backbone.num_main_blocks :]
    stem = backbone.patch_embed.proj
    if stem.stride == stem.kernel_size:
        _assert_apart(backbone, images)
    labels, blocks = start(token_labels), []
    for block, (x, *_) in zip(main, record(backbone, images, [block.attn for block in main])):
        labels = (labels + attend(_matrix(block.attn, x, backbone.rpe), labels)) / 2
        blocks.append(labels)
    return blocks, labels.mean(1)


def _matrix(attn, x, has_bias):
    """Attention (B, h, N, N)."""
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    query, key, _ = qkv.unbind(2)
    logits = torch.einsum('bihc,bjhc->bhij', query, key) * attn.scale
    if has_bias:
        index = offsets(attn.input_size, attn.input_size)
        logits = logits + attn.relative_position_bias_table[index].permute(2, 0, 1)
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
