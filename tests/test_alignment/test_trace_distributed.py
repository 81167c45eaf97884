"""Two processes that average their gradients, replicated and sharded."""

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients
from tests.test_alignment.test_trace_copies import Model
from tests.two_processes import run_two_processes

BATCH = 4
TYPES = ['VisionTransformer', 'SwinTransformer']


def loss_of(model, images, share):
    """A loss per sample that the share weighs, averaged."""
    features = model(images, share)[-1]
    inner = getattr(model, 'module', model)
    per_sample = features.flatten(1).square().mean(1)
    return (inner.trace.output_share * per_sample).mean()


def case(type=TYPES[0]):
    backbone, images, share = toys.case(type, BATCH)
    return Model(backbone), images, share


def half_batch(rank):
    """One of two processes: half of the batch, through each backbone."""
    results, half = {}, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    for type in TYPES:
        model, images, share = case(type)
        parallel = DistributedDataParallel(model)
        loss_of(parallel, images[half], share[half]).backward()
        results[type] = gradients(model), model.trace.output_share
    sharded, images, share = case()
    for module in (*sharded.backbone.layers, sharded):
        fully_shard(module, mesh=init_device_mesh('cpu', (2,)))
    loss_of(sharded, images[half], share[half]).backward()
    whole = {name: grad.full_tensor() for name, grad in gradients(sharded).items()}
    results['sharded'] = whole, sharded.trace.output_share
    return results


@pytest.mark.slow
def test_gradients_equal_those_of_one_process(tmp_path):
    ranks = run_two_processes(half_batch, tmp_path)
    for way, type in (*zip(TYPES, TYPES), ('sharded', TYPES[0])):
        model, images, share = case(type)
        loss_of(model, images, share).backward()
        expected = gradients(model)
        assert_equals_oracle(model.trace, model.backbone, images, share)
        for rank in ranks:
            assert_same(rank[way][0], expected)
        both = torch.cat([rank[way][1] for rank in ranks])
        assert_same(both, model.trace.output_share)
