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
from tests.oracle import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same

OWN = sorted(generate.FOLDER.glob('*.npz'))
# vectors computed by the reference implementation of the paper and by a
# dense Swin reference; they live beside the repository, not in it
SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'golden'
VIT, SWIN = (sorted(SHARED.glob(f'{kind}_*.npz')) for kind in ('vit', 'swin'))
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
    moved = toys.to_labels(shares, own, partner)
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


@pytest.mark.skipif(not SHARED.is_dir(), reason='reference data (../shared) is not present')
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


def vit_of(case, weights):
    """A ViT with the weights of a case."""
    img_size, patch_size, width, depth, heads, *_ = case['meta'].tolist()
    arch = dict(embed_dims=width, num_layers=depth, num_heads=heads)
    arch['feedforward_channels'] = weights['blocks.0.mlp.fc1.bias'].numel()
    backbone = VisionTransformer(arch, img_size=img_size, patch_size=patch_size)
    weights = {to_mmpretrain(name): x for name, x in weights.items() if 'head' not in name}
    backbone.load_state_dict(weights)
    return backbone


def swin_of(case, weights):
    """The same of a Swin."""
    img_size, patch_size, window_size, *_ = case['meta'].tolist()
    names = dict(embed_dims='embed_dims', depths='depths', num_heads='heads')
    arch = {ours: case[theirs].tolist() for ours, theirs in names.items()}
    sizes = dict(img_size=img_size, patch_size=patch_size, window_size=window_size)
    stages = dict(drop_path_rate=0.0, out_indices=range(len(arch['depths'])))
    backbone = SwinTransformer(arch, pad_small_map=True, **sizes, **stages)
    # the file leaves these buffers out, as they follow from the window size
    indices = {k: v for k, v in backbone.state_dict().items() if k.endswith('position_index')}
    backbone.load_state_dict(weights | indices)
    return backbone


def case_of(path):
    """Arrays, backbone with their weights, images, shares, own and partner labels."""
    case = load(path)
    count = sum(name.startswith('block_labels/') for name in case)
    if count:
        case['block_labels'] = [case[f'block_labels/{k}'] for k in range(count)]
    if path in OWN:
        backbone, images = generate.build_case(json.loads(str(case['config'])))
        share, own, partner = (case[name] for name in ('token_share', 'own', 'partner'))
        return case, backbone, images, share, own.double(), partner.double()
    weights = {n.removeprefix('weight/'): x for n, x in case.items() if n.startswith('weight/')}
    backbone = (vit_of if path in VIT else swin_of)(case, weights)
    num_classes = case['meta'][-2].item()
    smoothing = case.get('smoothing', torch.zeros(())).item()
    own = F.one_hot(case['labels'], num_classes).double()
    own = own * (1 - smoothing) + smoothing / num_classes
    share = (1 - case['partner_mask']).expand(len(own), -1, -1)
    return case, backbone, case['mixed_images'], share, own, own.flip(0)


@pytest.mark.parametrize('path', OWN + VIT + SWIN, ids=stem)
def test_trace_reproduces(path):
    case, backbone, images, token_share, own, partner = case_of(path)
    trace = LabelTrace(backbone, record=True)
    with trace(token_share):
        features = backbone(images)

    for share, labels in zip(trace.block_shares, case['block_labels'], strict=True):
        assert_labels(share, labels, own, partner)
    assert_labels(trace.output_share, case['aligned_label'], own, partner)
    if path not in VIT:
        features = features[0] if isinstance(features[0], tuple) else features
        for i, feature in enumerate(features):
            assert_same(feature, case[f'features/{i}'], OTHER_ATOL)
        return

    head = {name: case[f'weight/head.{name}'].requires_grad_() for name in ('weight', 'bias')}
    logits = F.linear(features[-1], **head)
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
        actual = gradients[to_mmpretrain(name.removeprefix('grad/'))]
        assert_same(actual, case[name], OTHER_ATOL)


@pytest.mark.parametrize('path', VIT + SWIN, ids=stem)
def test_oracle_reproduces_the_references(path):
    case, backbone, images, token_share, own, partner = case_of(path)
    start = toys.to_labels(token_share, own, partner)
    if path in VIT:
        assert_same(start.flatten(1, 2).float(), case['token_labels'][:, 1:])
    blocks, aligned = dense_labels(backbone, images, start)
    for labels, expected in zip(blocks, case['block_labels'], strict=True):
        assert_same(labels.float(), expected.view_as(labels), 1e-6)
    assert_same(aligned.float(), case['aligned_label'].float(), 1e-6)
