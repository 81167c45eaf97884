"""Comparisons that several alignment tests share."""

import copy

import torch

from mmtlalign.alignment import LabelTrace
from tests.oracle import labels_of
from tests.test_alignment import toys


def assert_labels_follow(backbone, inputs, token_share, atol=2e-6):
    """Compare a traced forward with the dense oracle, block by block; return its features."""
    trace = LabelTrace(backbone, record=True)
    with trace(token_share):
        features = backbone(inputs)
    assert_equals_oracle(trace, backbone, inputs, token_share, atol)
    return features


def assert_equals_oracle(trace, backbone, inputs, token_share, atol=2e-6, oracle=labels_of):
    """:func:`assert_equals` in float64."""
    twin = copy.deepcopy(backbone).double()
    assert_equals(trace, twin, inputs.double(), token_share, atol, oracle)


def assert_equals(trace, backbone, images, token_share, atol, oracle):
    """Compare what a recording trace holds with what an oracle finds; labels may differ by
    ``atol``."""
    own, partner = toys.class_labels(len(images))
    labels = toys.to_labels(token_share, own, partner).to(images.dtype)
    with torch.no_grad():
        blocks, aligned = oracle(backbone, images, labels)
    assert_all_moved(trace, blocks, aligned, own, partner, atol)
    sites = [site for site in trace.family.sites if site.in_block]
    read = trace.output_token_share.flatten(1)
    if trace.family.output in sites:
        labels = blocks[sites.index(trace.family.output)]
        assert_moved(read, labels[:, trace.family.num_extra_tokens :], own, partner, atol)
    else:  # a merging
        assert_same(read.mean(1), trace.output_share)


def assert_all_moved(trace, blocks, aligned, own, partner, atol):
    """Compare the shares of every block, and of the output, with dense labels."""
    for block_share, labels in zip(trace.block_shares, blocks, strict=True):
        assert block_share.shape == labels.shape[:2]
        assert_moved(block_share, labels, own, partner, atol)
    assert trace.output_share.shape == own.shape[:1]
    assert_moved(trace.output_share, aligned, own, partner, atol)


def assert_moved(share, labels, own, partner, atol):
    """Compare the labels that shares stand for with dense ones."""
    moved = toys.to_labels(share, own, partner)
    torch.testing.assert_close(moved, labels.double(), rtol=0, atol=atol)


def assert_same(actual, expected, atol=1e-5):
    """Compare tensors, or tuples or dicts of them, shapes included."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=atol)


def loss_of(features):
    """A scalar on which every value of every output pulls differently."""
    flat = torch.cat([feature.flatten() for feature in leaves(features)])
    weights = torch.linspace(-1, 1, flat.numel(), dtype=flat.dtype)
    return (flat * weights).mean()


def leaves(features):
    """The tensors of nested tuples, as the distilled ViT returns them."""
    if isinstance(features, torch.Tensor):
        return [features]
    return [leaf for feature in features for leaf in leaves(feature)]


def gradients(module):
    """Gradients of the parameters by name; they are cleared."""
    found = {
        name: parameter.grad
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    module.zero_grad(set_to_none=True)
    return found


def snapshot(module):
    """The instance attributes of every inner module."""
    return {name: dict(vars(m)) for name, m in module.named_modules()}


def assert_untouched(module, before):
    """Every inner module holds the very objects of the snapshot."""
    after = snapshot(module)
    assert after.keys() == before.keys()
    for name, attributes in before.items():
        assert after[name].keys() == attributes.keys(), name
        for key, value in attributes.items():
            assert after[name][key] is value, f'{name}.{key}'
