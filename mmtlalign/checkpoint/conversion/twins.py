"""Twins, PCPVT and SVT: the releases have timm's keys."""

from mmpretrain.models import PCPVT, SVT
from torch import nn

from .family import Family, State, Table, count, with_linear_head

BLOCK = 'backbone.stages.{}.{}.'


class Twins(Family):
    """Twins; the size of an SVT's windows is not to be seen in weights."""

    name = 'Twins'
    marks = dict(timm='pos_block.0.', mmpretrain='backbone.position_encodings.0.')

    def table(self, state: State, layout: str) -> Table:
        stages = max(count(state, r'pos_block\.(\d+)\.'), count_stages(state))
        return [
            ('patch_embeds.{}.proj.', 'backbone.patch_embeds.{}.projection.'),
            ('patch_embeds.{}.norm.', 'backbone.patch_embeds.{}.norm.'),
            ('pos_block.{}.proj.0.', 'backbone.position_encodings.{}.proj.'),
            ('blocks.{}.{}.norm1.', BLOCK + 'norm1.'),
            ('blocks.{}.{}.attn.', BLOCK + 'attn.'),
            ('blocks.{}.{}.norm2.', BLOCK + 'norm2.'),
            ('blocks.{}.{}.mlp.fc1.', BLOCK + 'ffn.layers.0.0.'),
            ('blocks.{}.{}.mlp.fc2.', BLOCK + 'ffn.layers.1.'),
            ('norm.', f'backbone.norm_after_stage{stages - 1}.'),
            ('head.', 'head.fc.'),
        ]

    def build(self, state: State, path: str) -> nn.Module:
        stages = range(count_stages(state))
        patches = [state[f'backbone.patch_embeds.{i}.projection.weight'] for i in stages]
        widths = [weight.shape[0] for weight in patches]
        hidden = [len(state[BLOCK.format(i, 0) + 'ffn.layers.0.0.weight']) for i in stages]
        arch = dict(
            embed_dims=widths,
            depths=[count(state, rf'backbone\.stages\.{i}\.(\d+)\.') for i in stages],
            num_heads=[1 for _ in stages],  # any will do for weights
            patch_sizes=[weight.shape[-1] for weight in patches],
            strides=[weight.shape[-1] for weight in patches],
            mlp_ratios=[rows // width for rows, width in zip(hidden, widths)],
            sr_ratios=[reduction(state, i) for i in stages],
        )
        windows = BLOCK.format(0, 0) + 'attn.qkv.weight' in state
        backbone = (SVT if windows else PCPVT)(
            arch=dict(arch, window_sizes=[7 for _ in stages]) if windows else arch,
            in_channels=patches[0].shape[1],
            out_indices=(stages[-1],),
            qkv_bias=True,
            norm_after_stage=[i == stages[-1] for i in stages],
        )
        return with_linear_head(backbone, state)


def count_stages(state: State) -> int:
    """The number of stages, in mmpretrain's layout."""
    return count(state, r'backbone\.position_encodings\.(\d+)\.')


def reduction(state: State, stage: int) -> int:
    """How many tokens a side a stage makes one key of."""
    found = [
        value.shape[-1]
        for key, value in state.items()
        if key.startswith(f'backbone.stages.{stage}.') and key.endswith('.attn.sr.weight')
    ]
    return found[0] if found else 1
