"""Dense labels through T2T-ViT of mmpretrain, the slow way."""

from .geometry import attend, pool, read, record, softmax_of, split_heads, start


def dense_labels(backbone, images, token_labels):
    """Labels after each block, and of what the head reads; see
    :func:`tests.oracle.labels_of`."""
    module = backbone.tokens_to_token
    modules = [
        module.attention1.attn,
        module.attention2.attn,
        *(layer.attn for layer in backbone.encoder),
    ]
    calls = record(backbone, images, modules)
    labels, grid = token_labels.flatten(1, 2), token_labels.shape[1:3]
    extra, steps = backbone.num_extra_tokens, []
    for number, (attn, (x,)) in enumerate(zip(modules, calls, strict=True)):
        labels = (labels + attend(_matrix(attn, x), labels)) / 2
        if number < 2:
            # kernel 3, stride 2, padding 1, as the paper has it
            labels, grid = pool(labels, grid, 3, 2, 1)
            if number == 1:
                labels = start(labels[:, None], extra)
        else:
            steps.append(labels)
    return steps, read(backbone, steps[max(backbone.out_indices)], extra)


def _matrix(attn, x):
    """(B, h, N, N). The host divides logits by one over the root of the
    width of a head, whatever ``qk_scale`` says."""
    query, key, _ = attn.qkv(x).chunk(3, dim=-1)
    return softmax_of(
        split_heads(query, attn.num_heads),
        split_heads(key, attn.num_heads),
        (attn.embed_dims // attn.num_heads) ** 0.5,
    )
