# The arm without mixing: the mini as it is.
_base_ = '../tlalign/tlalign-swin-mini_upernet_1xb4-600_camvid-240x180.py'
