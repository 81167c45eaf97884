"""Convert an LV-ViT between its published key layout and mmtlalign's.

The authors' releases have the keys that this calls timm's. Examples:
    python tools/model_converters/convert_lvvit.py lvvit_s.pth out.pth
    python tools/model_converters/convert_lvvit.py out.pth back.pth --to timm
"""
from conversion import (
    State,
    count,
    finish,
    make_parser,
    read,
    rename,
    turned,
    with_head,
)
from mmpretrain.models import VisionTransformerClsHead
from torch import nn

from mmtlalign.models import LVViT, TokenLabelHead
from mmtlalign.utils import UserError, one_line_errors

# published, mmtlalign
TABLE = [
    # three convolutions, each followed by a norm and an activation
    *((f'patch_embed.{part}{i + 1}.',
       f'backbone.patch_embed.stem.{3 * i + offset}.')
      for i in range(3) for offset, part in enumerate(('conv', 'bn'))),
    ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
    ('cls_token', 'backbone.cls_token'),
    ('pos_embed', 'backbone.pos_embed'),
    ('blocks.{}.norm1.', 'backbone.layers.{}.ln1.'),
    ('blocks.{}.attn.qkv.', 'backbone.layers.{}.attn.qkv.'),
    ('blocks.{}.attn.proj.', 'backbone.layers.{}.attn.proj.'),
    ('blocks.{}.norm2.', 'backbone.layers.{}.ln2.'),
    ('blocks.{}.mlp.fc1.', 'backbone.layers.{}.ffn.layers.0.0.'),
    ('blocks.{}.mlp.fc2.', 'backbone.layers.{}.ffn.layers.1.'),
    ('norm.', 'backbone.ln1.'),
    ('head.', 'head.layers.head.'),
    ('aux_head.', 'head.aux_head.'),
]
LOSS = dict(type='mmpretrain.CrossEntropyLoss')


def recognise(state: State, path: str) -> str:
    """The layout of a file."""
    for layout, key in (('timm', 'patch_embed.conv1.weight'),
                        ('mmpretrain', 'backbone.patch_embed.stem.0.weight')):
        if key in state:
            return layout
    raise UserError(f"'{path}' is no LV-ViT in its published layout or "
                    f"mmtlalign's: its first key is '{next(iter(state))}'")


def build(state: State, path: str) -> nn.Module:
    """The model for a state in mmtlalign's layout, as its keys tell.

    The number of heads and ``skip_lam`` are not to be seen in weights and
    stay at one; the same weights serve any.
    """
    width, channels, half = state[
        'backbone.patch_embed.projection.weight'].shape[:3]
    patches = state['backbone.pos_embed'].shape[1] - 1
    if round(patches**.5)**2 != patches:
        raise UserError(f"'{path}' has position embeddings for {patches} "
                        'patches, which is no square')
    backbone = LVViT(
        arch=dict(
            embed_dims=width, num_heads=1, stem_channels=channels,
            num_layers=count(state, r'backbone\.layers\.(\d+)\.'),
            feedforward_channels=state[
                'backbone.layers.0.ffn.layers.0.0.weight'].shape[0]),
        img_size=round(patches**.5) * 2 * half, patch_size=2 * half,
        qkv_bias='backbone.layers.0.attn.qkv.bias' in state)
    weight = state.get('head.layers.head.weight')
    if weight is None:
        return with_head(backbone, None)
    dense = 'head.aux_head.weight' in state
    head_cls = TokenLabelHead if dense else VisionTransformerClsHead
    return with_head(backbone, head_cls(
        num_classes=len(weight), in_channels=width, loss=LOSS))


def main() -> None:
    args = make_parser(__doc__, ['mmpretrain', 'timm']).parse_args()
    state, meta = read(args)
    if recognise(state, args.file) == 'timm':
        state = rename(state, TABLE, args.file)
    model = build(state, args.file)
    if args.to == 'mmpretrain':
        finish(args.out, args.to, state, meta, model)
    else:
        finish(args.out, args.to, rename(state, turned(TABLE), args.file),
               meta, model, lambda out: rename(out, TABLE, args.out))


if __name__ == '__main__':
    with one_line_errors('convert_lvvit.py'):
        main()
