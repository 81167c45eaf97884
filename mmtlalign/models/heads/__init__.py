from .tlalign_head import TLAlignLinearClsHead, TLAlignVisionTransformerClsHead

__all__ = ['TLAlignLinearClsHead', 'TLAlignVisionTransformerClsHead']
