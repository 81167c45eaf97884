"""Numbers that the alignment must reproduce, stored and from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer
from torch.nn import functional as F

from mmtlalign.alignment import LabelTrace
from tests.data import generate
from tests.oracle import dense_labels, dense_step
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same

OWN = sorted(generate.FOLDER.glob('*.npz'))
# vectors computed by the reference implementation of the paper and by a
# dense Swin reference; they live beside the repository, not in it
SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'golden'
VIT, SWIN = (sorted(SHARED.glob(f'{kind}_*.npz')) for kind in ('vit', 'swin'))
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason='reference data (../shared) is not present'
)
LABEL_ATOL, OTHER_ATOL = 2e-5, 1e-4


def stem(path):
    return path.stem


def load(path):
    """Arrays of a file as tensors; strings stay numpy."""
    with np.load(path) as arrays:
        return {
            name: value if value.dtype.kind == 'U' else torch.as_tensor(value)
            for name, value in arrays.items()
        }


def assert_labels(shares, labels, own, partner):
    moved = toys.to_labels(shares, own.double(), partner.double())
    torch.testing.assert_close(moved, labels.double().view_as(moved), rtol=0, atol=LABEL_ATOL)


def test_every_case_of_the_generator_is_stored():
    assert {path.stem for path in OWN} == set(generate.CASES)


@pytest.mark.parametrize('path', OWN, ids=stem)
def test_oracle_reproduces_own_file(path):
    stored = load(path)
    config = json.loads(str(stored.pop('config')))
    assert config == generate.CASES[path.stem]
    arrays = generate.compute(config)
    assert stored.keys() == arrays.keys() - {'config'}
    for name, value in stored.items():
        assert_same(torch.from_numpy(arrays[name]), value, atol=1e-6)


@pytest.mark.parametrize('path', OWN, ids=stem)
def test_trace_reproduces_own_file(path):
    stored = load(path)
    config = json.loads(str(stored['config']))
    backbone, images = generate.build_case(config)
    trace = LabelTrace(backbone, record=True)
    with trace(stored['token_share']):
        features = backbone(images)

    own, partner = stored['own'], stored['partner']
    blocks = [name for name in stored if name.startswith('block_labels')]
    assert len(trace.block_shares) == len(blocks)
    for k, share in enumerate(trace.block_shares):
        assert_labels(share, stored[f'block_labels/{k}'], own, partner)
    assert_labels(trace.output_share, stored['aligned_label'], own, partner)
    if isinstance(features[0], tuple):
        features = features[0]
    for i, feature in enumerate(features):
        assert_same(feature, stored[f'features/{i}'], OTHER_ATOL)


@needs_shared
def test_shared_files_are_there():
    assert VIT and SWIN


# timm's names of the modules, and mmpretrain's
NAMES = {
    'patch_embed.proj': 'patch_embed.projection',
    'blocks': 'layers',
    'norm1': 'ln1',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
    'norm.': 'ln1.',
}


def to_mmpretrain(name):
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def vit_case(path):
    """Arrays, backbone with their weights, own and partner labels."""
    case = load(path)
    img_size, patch_size, width, depth, heads, num_classes, batch = case['meta'].tolist()
    backbone = VisionTransformer(
        arch=dict(
            embed_dims=width,
            num_layers=depth,
            num_heads=heads,
            feedforward_channels=case['weight/blocks.0.mlp.fc1.bias'].numel(),
        ),
        img_size=img_size,
        patch_size=patch_size,
    )
    backbone.load_state_dict(
        {
            to_mmpretrain(name[len('weight/') :]): value
            for name, value in case.items()
            if name.startswith('weight/') and 'head' not in name
        }
    )
    smoothing = case['smoothing'].item()
    own = F.one_hot(case['labels'], num_classes).double()
    own = own * (1 - smoothing) + smoothing / num_classes
    return case, backbone, own, own.flip(0)


@needs_shared
@pytest.mark.parametrize('path', VIT, ids=stem)
def test_vit_reproduces_the_published_implementation(path):
    case, backbone, own, partner = vit_case(path)
    token_share = (1 - case['partner_mask']).expand(len(own), -1, -1)
    trace = LabelTrace(backbone, record=True)
    with trace(token_share):
        features = backbone(case['mixed_images'])[-1]

    assert len(trace.block_shares) == len(case['block_labels'])
    for share, labels in zip(trace.block_shares, case['block_labels']):
        assert_labels(share, labels, own, partner)
    assert_labels(trace.output_share, case['aligned_label'], own, partner)

    head = {name: case[f'weight/head.{name}'].requires_grad_() for name in ('weight', 'bias')}
    logits = F.linear(features, **head)
    target = toys.to_labels(trace.output_share, own, partner).float()
    loss = F.cross_entropy(logits, target)
    loss.backward()
    assert_same(logits, case['logits'], OTHER_ATOL)
    assert loss.item() == pytest.approx(case['loss'].item(), abs=OTHER_ATOL)

    gradients = {n: p.grad for n, p in backbone.named_parameters()}
    gradients.update({f'head.{n}': p.grad for n, p in head.items()})
    checked = [name for name in case if name.startswith('grad/')]
    assert checked
    for name in checked:
        actual = gradients[to_mmpretrain(name[len('grad/') :])]
        assert_same(actual, case[name], OTHER_ATOL)


def token_labels(case, own, partner):
    share = (1 - case['partner_mask']).expand(len(own), -1, -1)
    return toys.to_labels(share, own, partner)


@needs_shared
@pytest.mark.parametrize('path', VIT, ids=stem)
def test_oracle_reproduces_the_published_implementation(path):
    case, backbone, own, partner = vit_case(path)
    start = token_labels(case, own, partner)
    assert_same(start.flatten(1, 2).float(), case['token_labels'][:, 1:])
    blocks, aligned = dense_labels(backbone, case['mixed_images'], start)
    assert_same(torch.stack(blocks).float(), case['block_labels'], 1e-6)
    assert_same(aligned.float(), case['aligned_label'], 1e-6)


def swin_case(path):
    """Arrays, backbone with their weights, own and partner labels."""
    case = load(path)
    img_size, patch_size, window_size, num_classes, batch = case['meta'].tolist()
    depths = case['depths'].tolist()
    backbone = SwinTransformer(
        arch=dict(
            embed_dims=case['embed_dims'].item(), depths=depths, num_heads=case['heads'].tolist()
        ),
        img_size=img_size,
        patch_size=patch_size,
        window_size=window_size,
        pad_small_map=True,
        drop_path_rate=0.0,
        out_indices=range(len(depths)),
    )
    weights = {
        name[len('weight/') :]: value for name, value in case.items() if name.startswith('weight/')
    }
    # the file leaves these buffers out, as they follow from the window size
    weights.update(
        {
            name: value
            for name, value in backbone.state_dict().items()
            if name.endswith('relative_position_index')
        }
    )
    backbone.load_state_dict(weights)
    own = F.one_hot(case['labels'], num_classes).double()
    smoothing = case.get('smoothing', torch.zeros(())).item()
    own = own * (1 - smoothing) + smoothing / num_classes
    return case, backbone, own, own.flip(0)


@needs_shared
@pytest.mark.parametrize('path', SWIN, ids=stem)
def test_swin_reproduces_the_dense_reference(path):
    case, backbone, own, partner = swin_case(path)
    token_share = (1 - case['partner_mask']).expand(len(own), -1, -1)
    trace = LabelTrace(backbone, record=True)
    with trace(token_share):
        features = backbone(case['mixed_images'])

    blocks = [name for name in case if name.startswith('block_labels/')]
    assert len(trace.block_shares) == len(blocks)
    for k, share in enumerate(trace.block_shares):
        labels = case[f'block_labels/{k}'].flatten(1, 2)
        assert_labels(share, labels, own, partner)
    assert_labels(trace.output_share, case['aligned_label'], own, partner)
    for i, feature in enumerate(features):
        assert_same(feature, case[f'features/{i}'], OTHER_ATOL)


@needs_shared
@pytest.mark.parametrize('path', SWIN, ids=stem)
def test_oracle_reproduces_the_dense_reference(path):
    case, backbone, own, partner = swin_case(path)
    blocks, aligned = dense_labels(backbone, case['mixed_images'], token_labels(case, own, partner))
    for k, labels in enumerate(blocks):
        expected = case[f'block_labels/{k}'].flatten(1, 2)
        assert_same(labels.float(), expected, 1e-6)
    assert_same(aligned, case['aligned_label'], 1e-6)


def test_dense_step_moves_what_the_oracle_moves():
    backbone, images = toys.vit(), toys.images()
    start = toys.to_labels(toys.shares(), *toys.class_labels())
    stock = backbone(images)
    features, labels = dense_step(backbone, images, start.float())
    assert_same(features, stock)
    blocks, _ = dense_labels(backbone, images, start)
    assert_same(labels.double(), blocks[-1], 1e-6)
