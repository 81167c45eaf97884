from .tlalign_head import TLAlignLinearClsHead, TLAlignVisionTransformerClsHead
from .token_label_head import TokenLabelHead

__all__ = [
    'TLAlignLinearClsHead', 'TLAlignVisionTransformerClsHead',
    'TokenLabelHead'
]
