"""The contract between mixing, preprocessor, classifier and targets."""

from torch import Tensor


class MixRecord:
    """What was mixed with what in one batch: data and nothing else.

    One for the batch; it travels beside the samples, as the keyword ``mix``. All tensors are on the
    CPU. A plain class, because FSDP's mixed precision casts the tensors in tuples, dicts and
    dataclasses: a lam of 0.3 arrived as 0.30078.

    Args:
        partner (Tensor): (B,), int64: index of the image mixed into each.
        token_share (Tensor): (B, rows, cols), float32 in [0, 1]: the part of each patch that
            belongs to its own image.
        lam (Tensor): (B,), float32: the part of the whole image that does.
        source (Tensor, optional): (B, rows, cols), int64: which patch of the partner lies where,
            row-major; -1 is an own patch. Defaults to None: the partner's patches stay in their
            places.
        pixel_share (Tensor, optional): (B or 1, H, W), float32: the part of each pixel that is
            kept, where a method splits patches. Defaults to None: that of the pixel's patch.
        in_backbone (bool): The images are left as they are; the backbone's tokens are swapped
            instead. Defaults to False.
        choice (tuple[int]): Which of several methods drew it, written by :class:`RandomMix`, the
            outer one first. Defaults to ().
    """

    def __init__(
        self,
        partner: Tensor,
        token_share: Tensor,
        lam: Tensor,
        source: Tensor | None = None,
        pixel_share: Tensor | None = None,
        in_backbone: bool = False,
        choice: tuple[int, ...] = (),
    ) -> None:
        self.partner = partner
        self.token_share = token_share
        self.lam = lam
        self.source = source
        self.pixel_share = pixel_share
        self.in_backbone = in_backbone
        self.choice = choice
