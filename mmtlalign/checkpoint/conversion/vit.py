"""What plain ViTs share: names in their layers, and how large these are."""

from mmtlalign.errors import UserError

from .family import State, Table, count

# timm, mmpretrain
LAYERS: Table = [
    ('blocks.{}.norm1.', 'backbone.layers.{}.ln1.'),
    ('blocks.{}.attn.qkv.', 'backbone.layers.{}.attn.qkv.'),
    ('blocks.{}.attn.proj.', 'backbone.layers.{}.attn.proj.'),
    ('blocks.{}.norm2.', 'backbone.layers.{}.ln2.'),
    ('blocks.{}.mlp.fc1.', 'backbone.layers.{}.ffn.layers.0.0.'),
    ('blocks.{}.mlp.fc2.', 'backbone.layers.{}.ffn.layers.1.'),
]


def side_of(patches: int, path: str) -> int:
    """How many patches are in a row; a UserError if they are no square."""
    side = round(patches**0.5)
    if side**2 != patches:
        raise UserError(
            f"'{path}' has position embeddings for {patches} patches, which is no square, beside "
            'those of its tokens'
        )
    return side


def arch_of(state: State, path: str) -> dict[str, int]:
    """``arch`` of a ViT's weights in mmpretrain's layout; the number of heads
    is not to be seen in them and stays at one, as they serve any.

    Raises:
        UserError: If the feed-forward layers are gated, naming the path.
    """
    hidden = state['backbone.layers.0.ffn.layers.0.0.weight'].shape[0]
    if state['backbone.layers.0.ffn.layers.1.weight'].shape[1] != hidden:
        raise UserError(
            f"'{path}' is a ViT with gated feed-forward layers (as EVA-02's and DINOv2's giant), "
            'which is not converted'
        )
    return dict(
        embed_dims=state['backbone.patch_embed.projection.weight'].shape[0],
        num_heads=1,
        num_layers=count(state, r'backbone\.layers\.(\d+)\.'),
        feedforward_channels=hidden,
    )
