"""LV-ViT, the vision transformer of Token Labeling (arXiv 2104.10858)."""

from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import build_norm_layer, to_2tuple
from torch import Tensor, nn

from mmtlalign.registry import MODELS


@MODELS.register_module()
class LVViT(VisionTransformer):
    """LV-ViT: a ViT with a convolutional stem and weaker residual branches.

    `All Tokens Matter: Token Labeling for Training Better Vision Transformers
    <https://arxiv.org/abs/2104.10858>`_. Differs from the host's ``VisionTransformer`` in that

    - the patch embedding is a :class:`ConvStemPatchEmbed`;
    - the output of every attention and feed-forward branch is divided by
      ``skip_lam`` before it is added;
    - queries, keys and values have no bias, and the epsilon of norms is 1e-5;
    - all linear layers, position embeddings and the class token start from a
      truncated normal distribution of standard deviation 0.02.

    It overrides no ``forward``, so the rule of the host's ViT moves shares
    through it: the division scales features, like layer scale, and no label.

    Args:
        arch (str | dict): 'tiny', 'small', 'medium' or 'large', or the first letter of it. A dict
            has ``embed_dims``, ``num_layers``, ``num_heads`` and ``feedforward_channels``, and may
            have ``stem_channels`` (defaults to 64) and ``skip_lam`` (defaults to 1). Defaults to
            'small'.
        patch_size (int): Edge of a patch in pixels, even. Defaults to 16.
        stem_norm_cfg (dict): Norm in the stem. Defaults to ``dict(type='BN')``.
        qkv_bias (bool): Defaults to False.
        norm_cfg (dict): Defaults to ``dict(type='LN', eps=1e-5)``.
        **kwargs: Other arguments of ``VisionTransformer``, among them
            ``img_size``, ``out_indices``, ``out_type``, ``drop_path_rate``.

    Raises:
        ValueError: If ``patch_size`` is not even, or ``skip_lam`` not positive.
    """

    arch_zoo = {
        name: dict(
            embed_dims=embed_dims,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_channels=3 * embed_dims,
            stem_channels=stem_channels,
            skip_lam=skip_lam,
        )
        for names, embed_dims, num_layers, num_heads, stem_channels, skip_lam in (
            (('t', 'tiny'), 240, 12, 4, 64, 1.0),
            (('s', 'small'), 384, 16, 6, 64, 2.0),
            (('m', 'medium'), 512, 20, 8, 64, 2.0),
            (('l', 'large'), 768, 24, 12, 128, 3.0),
        )
        for name in names
    }

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | tuple = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        stem_norm_cfg: dict = dict(type='BN'),
        qkv_bias: bool = False,
        norm_cfg: dict = dict(type='LN', eps=1e-5),
        **kwargs,
    ) -> None:
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            qkv_bias=qkv_bias,
            norm_cfg=norm_cfg,
            **kwargs,
        )
        self.patch_embed = ConvStemPatchEmbed(
            in_channels=in_channels,
            embed_dims=self.embed_dims,
            stem_channels=self.arch_settings.get('stem_channels', 64),
            patch_size=patch_size,
            input_size=img_size,
            norm_cfg=stem_norm_cfg,
        )
        skip_lam = self.arch_settings.get('skip_lam', 1.0)
        for layer in self.layers:
            layer.attn.out_drop = ScaledDropPath(layer.attn.out_drop.drop_prob, skip_lam)
            layer.ffn.dropout_layer = ScaledDropPath(layer.ffn.dropout_layer.drop_prob, skip_lam)
        if self.frozen_stages > 0:  # the parts that are new here too
            self._freeze_stages()

    def train(self, mode: bool = True) -> 'LVViT':
        """Frozen stages stay in eval mode: the stem has batch norms."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def init_weights(self) -> None:
        """Initialise as published, unless ``init_cfg`` names a checkpoint."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)


class ConvStemPatchEmbed(PatchEmbed):
    """Three convolutions at half resolution before patches are projected.

    A 7x7 convolution of stride 2 and two 3x3 ones, each with a norm and ReLU; then a projection of
    cells of ``patch_size / 2``. Its field of view crosses patches, so mixing its outputs is not the
    same as mixing images.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        stem_channels: int,
        patch_size: int,
        input_size: int | tuple,
        norm_cfg: dict,
    ) -> None:
        if patch_size % 2:
            raise ValueError(
                f'patch_size={patch_size} must be even: the stem of LV-ViT halves the resolution.'
            )
        half = patch_size // 2
        super().__init__(
            in_channels=stem_channels,
            embed_dims=embed_dims,
            kernel_size=half,
            stride=half,
            input_size=tuple(-(-n // 2) for n in to_2tuple(input_size)),
        )
        layers = []
        for kernel_size, stride in ((7, 2), (3, 1), (3, 1)):
            layers += [
                nn.Conv2d(
                    in_channels, stem_channels, kernel_size, stride, kernel_size // 2, bias=False
                ),
                build_norm_layer(norm_cfg, stem_channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = stem_channels
        self.stem = nn.Sequential(*layers)

    def forward(self, x: Tensor):
        """Images (B, C, H, W) -> tokens (B, N, embed_dims), (rows, cols)."""
        return super().forward(self.stem(x))


class ScaledDropPath(DropPath):
    """Stochastic depth, and then the division of a residual branch by ``skip_lam``."""

    def __init__(self, drop_prob: float, skip_lam: float) -> None:
        if not skip_lam > 0:
            raise ValueError(f'skip_lam={skip_lam} must be positive.')
        # The host's rates are numpy floats, which torch.compile cannot take.
        super().__init__(float(drop_prob))
        self.skip_lam = float(skip_lam)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.skip_lam == 1 else x / self.skip_lam

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob}, skip_lam={self.skip_lam}'
