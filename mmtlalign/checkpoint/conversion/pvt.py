"""PVT v2: the paper's release, timm, and mmdet, which has the backbone."""

import torch
from torch import nn

from mmtlalign.errors import UserError

from .family import Family, State, Table, count, with_linear_head

BLOCK = 'backbone.layers.{}.1.{}.'
# ends of keys: layers that are convolutions in mmdet
LINEAR = ('ffn.layers.0.weight', 'ffn.layers.4.weight')


class PVTv2(Family):
    """PVT v2, without the variant of linear attention."""

    name = 'PVT v2'
    marks = dict(
        paper='block1.0.mlp.dwconv.',
        timm='stages.0.blocks.0.mlp.dwconv.',
        mmpretrain='backbone.layers.0.1.0.ffn.layers.1.',
    )

    def table(self, state: State, layout: str) -> Table:
        rows = []
        for i in range(4):
            stage, new = f'backbone.layers.{i}.', f'backbone.layers.{i}.1.{{}}.'
            if layout == 'paper':
                embed, block = f'patch_embed{i + 1}.', f'block{i + 1}.{{}}.'
                norm, conv = f'norm{i + 1}.', 'dwconv.dwconv.'
            else:
                embed = f'stages.{i}.downsample.' if i else 'patch_embed.'
                block, norm, conv = f'stages.{i}.blocks.{{}}.', f'stages.{i}.norm.', 'dwconv.'
            rows += [
                (embed + 'proj.', stage + '0.projection.'),
                (embed + 'norm.', stage + '0.norm.'),
                (norm, stage + '2.'),
                (block + 'norm', new + 'norm'),
                (block + 'attn.q.', new + 'attn.attn.q_'),
                (block + 'attn.kv.', new + 'attn.attn.kv_'),
                (block + 'attn.proj.', new + 'attn.attn.out_proj.'),
                (block + 'attn.', new + 'attn.'),  # the reduction
                (block + 'mlp.fc1.', new + 'ffn.layers.0.'),
                (block + f'mlp.{conv}', new + 'ffn.layers.1.'),
                (block + 'mlp.fc2.', new + 'ffn.layers.4.'),
            ]
        return [*rows, ('head.', 'head.fc.')]

    def adopt(self, state: State) -> State:
        """Join q with k and v, and make linear layers convolutions."""
        adopted = {}
        for key, value in state.items():
            if '.attn.attn.q_' in key:
                both = torch.cat([value, state[key.replace('.q_', '.kv_')]])
                adopted[key.replace('.q_', '.in_proj_')] = both
            elif '.attn.attn.kv_' not in key:
                adopted[key] = value[..., None, None] if key.endswith(LINEAR) else value
        return adopted

    def release(self, state: State) -> State:
        released = {}
        for key, value in state.items():
            if '.in_proj_' in key:
                width = len(value) // 3
                released[key.replace('.in_proj_', '.q_')] = value[:width].clone()
                released[key.replace('.in_proj_', '.kv_')] = value[width:].clone()
            else:
                released[key] = value[..., 0, 0].contiguous() if key.endswith(LINEAR) else value
        return released

    def build(self, state: State, path: str) -> nn.Module:
        """As in the base class.

        Raises:
            UserError: If mmdet is not installed, or its backbone has no such widths or attention.
        """
        try:
            from mmdet.models.backbones import PyramidVisionTransformerV2
        except ImportError as error:
            raise UserError(
                f"'{path}' is a PVT v2, a backbone of mmdet, which cannot be imported ({error}); "
                'docs/install.md says how to install it'
            ) from None
        stages = range(count(state, r'backbone\.layers\.(\d+)\.'))
        patches = [state[f'backbone.layers.{i}.0.projection.weight'] for i in stages]
        widths = [weight.shape[0] for weight in patches]
        kernels = [state.get(BLOCK.format(i, 0) + 'attn.sr.weight') for i in stages]
        ratios = [1 if kernel is None else kernel.shape[-1] for kernel in kernels]
        if any(kernel is not None and kernel.shape[-1] == 1 for kernel in kernels):
            raise UserError(f"'{path}' is a PVT v2 of linear attention, which mmdet does not have")
        if any(width % widths[0] for width in widths):
            raise UserError(
                f"'{path}' is a PVT v2 of widths {widths}, which mmdet does not have: "
                'they are multiples of the first there'
            )
        hidden = [len(state[BLOCK.format(i, 0) + 'ffn.layers.0.weight']) for i in stages]
        backbone = PyramidVisionTransformerV2(
            in_channels=patches[0].shape[1],
            embed_dims=widths[0],
            num_layers=[count(state, rf'backbone\.layers\.{i}\.1\.(\d+)\.') for i in stages],
            num_heads=[width // widths[0] for width in widths],
            sr_ratios=ratios,
            mlp_ratios=[rows // width for rows, width in zip(hidden, widths)],
        )
        return with_linear_head(backbone, state)
