import torch
from mmengine.registry import MODELS


def test_mean_of_the_last_map_of_a_list():
    neck = MODELS.build(dict(type='mmtlalign.LastMapPooling'))
    last = torch.arange(24.0).view(2, 3, 2, 2)
    (pooled,) = neck([torch.full((2, 5, 4, 4), torch.nan), last])
    # each channel holds four numbers in a row
    assert pooled.tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
