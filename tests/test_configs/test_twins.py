"""Recipes to be compared differ in what their names say, and in nothing else."""

import pytest

from .recipes import changes, listed, read, stem

CLASSIFICATION = 'configs/classification'
TLALIGN = listed(f'{CLASSIFICATION}/tlalign')
SMALL, TINY = 'deit-small_8xb128_in1k', 'swin-tiny_16xb64_in1k'
MINI, DIGITS = 'deit-mini_1xb128_cifar10', 'deit-digits_1xb32_digits'
SWINS = (TINY, 'swin-mini_1xb128_cifar10', 'swin-mini_1xb32_digits')
STUDY = [f'{net}-mini_1xb128-128e_cifar10-2500' for net in ('deit', 'swin')]
ALIGNED = [
    name
    for name in (stem(path).removeprefix('tlalign_') for path in TLALIGN if '/tlalign_' in path)
    if name not in STUDY
]
PLANTED = [f'deit-micro_1xb50-150e_planted-{size}px' for size in ('24', '8in24')]

AREA = dict(type='mmtlalign.AreaTarget')
ATTENTION = dict(type='mmtlalign.AttentionTarget', ratio=0.5)
CONTRIBUTION = dict(type='mmtlalign.AlignedTarget', propagation='contribution')
PROGRESSIVE = dict(type='mmtlalign.ProgressiveTarget')
TOKENS = {
    'model.target': dict(type='mmtlalign.AlignedTokenTarget'),
    'model.backbone.out_type': 'raw',
    'model.head.type': 'mmtlalign.AlignedTokenHead',
}
ARMS = dict(
    object={'model.target.type': 'mmtlalign.ObjectTarget'},
    tlalign={'model.target.type': 'mmtlalign.AlignedTarget'},
    contribution={f'model.target.{key}': value for key, value in CONTRIBUTION.items()},
)

# Of each folder: methods, what they change in a recipe, and in which; masks
# by their types. What they are compared with is TL-Align, or named.
ROWS = [
    ('tlalign/cutmix', dict(target=AREA), ALIGNED),
    ('tlalign/cutmix', dict(target=dict(AREA, monitor=True)), STUDY),
    ('tlalign/none', dict(target=AREA, train_cfg=None), STUDY),
    ('tlalign-tokens/tlalign-tokens', TOKENS, (DIGITS, MINI, SMALL)),
    (
        'contribution/contribution',
        dict(target=CONTRIBUTION),
        (SMALL, MINI, DIGITS, *SWINS, STUDY[0]),
    ),
    ('transmix/transmix', dict(target=ATTENTION), (MINI, DIGITS)),
    ('mixpro/mixpro', dict(target=PROGRESSIVE, masks=['MaskMix']), (MINI, DIGITS)),
    ('mixpro/maskmix', dict(target=AREA, masks=['MaskMix']), (SMALL, MINI)),
    ('mixpro/maskmix', dict(target=AREA, masks=['MaskMix', 'Mixup', 'CutMix']), [TINY]),
    ('tokenmix/tokenmix-area', dict(target=AREA, masks=['TokenMix']), (SMALL, MINI, DIGITS)),
    *(
        (f'mixing/{mask.lower()}', dict(target=AREA, masks=[mask]), (MINI, SMALL))
        for mask in ('Cutout', 'FMix', 'GridMix', 'Mixup')
    ),
    *((f'planted/{arm}', change, PLANTED, 'planted/cutmix') for arm, change in ARMS.items()),
]
TWINS = [
    (f'{method}_{recipe}', expected, f'{(*base, "tlalign/tlalign")[0]}_{recipe}')
    for method, expected, recipes, *base in ROWS
    for recipe in recipes
]


def changes_of(ours, base):
    return changes(*(read(f'{CLASSIFICATION}/{name}.py').to_dict() for name in (ours, base)))


@pytest.mark.parametrize('name, expected, base', TWINS, ids=[name for name, *_ in TWINS])
def test_nothing_else_differs(name, expected, base):
    found, expected = changes_of(name, base), dict(expected)
    masks = [mask['type'] for mask in found.pop('model.train_cfg.augments', ())]
    assert masks == [f'mmtlalign.{mask}' for mask in expected.pop('masks', ())]
    if len(masks) > 1:
        assert found.pop('model.train_cfg.probs') == [0.5, 0.25, 0.25]
    assert found == {key if '.' in key else f'model.{key}': expected[key] for key in expected}


def test_smaller_objects_alone():
    large, small = (f'planted/cutmix_{recipe}' for recipe in PLANTED)
    parts = (f'{part}_dataloader.dataset.object_size' for part in ('train', 'val', 'test'))
    assert changes_of(small, large) == dict.fromkeys(parts, 8)


@pytest.mark.parametrize(
    'folder, own',
    [
        ('contribution', []),
        ('mixing', []),
        ('mixpro', ['mixpro_deit-tiny-p14_8xb128_in1k', 'mixpro_deit-small-p14_8xb128_in1k']),
        ('planted', [f'cutmix_{recipe}' for recipe in PLANTED]),
        ('tlalign', [f'tlalign_{recipe}' for recipe in (*ALIGNED, *STUDY)]),
        ('tlalign-tokens', []),
        ('tokenmix', [f'tokenmix_{recipe}' for recipe in (MINI, SMALL, TINY)]),
        ('transmix', [f'transmix_{SMALL}']),
    ],
)
def test_lists_are_complete(folder, own):
    """All configs are twins, or recipes of their own."""
    twins = [name.split('/')[1] for name, *_ in TWINS if name.startswith(f'{folder}/')]
    assert sorted(map(stem, listed(f'{CLASSIFICATION}/{folder}'))) == sorted([*twins, *own])


def test_with_and_without_token_labels():
    """The same images and mixes; other targets, no dense loss, no maps."""
    ours, base = (
        f'tokenlabel/{name}_lvvit-mini_1xb128_cifar10' for name in ('mixtoken', 'tokenlabel')
    )
    found = changes_of(ours, base)
    steps = found.pop('train_pipeline')
    assert found.pop('train_dataloader.dataset.pipeline') == steps
    assert found == {'model.head.dense_weight': 0, 'model.head.cls_target': 'ground_truth'}
    labelled = read(f'{CLASSIFICATION}/{base}.py').train_pipeline
    assert steps == [step for step in labelled if step.type != 'mmtlalign.LoadTokenLabels']
    assert len(labelled) == len(steps) + 1


@pytest.mark.parametrize(
    'net', ['swin-mini_upernet_1xb4-600_camvid-240x180', 'deit-mini_upernet_1xb4-600_camvid-120x90']
)
def test_arms_of_segmentation(net):
    none, cutmix, aligned = (
        read(f'configs/segmentation/cutmix/{arm}_{net}.py').to_dict()
        for arm in ('none', 'cutmix', 'aligned-cutmix')
    )
    patch_size = none['model']['backbone']['patch_size']
    mask = dict(type='mmtlalign.TokenCutMix', patch_size=patch_size)
    assert changes(cutmix, none) == {
        'model.data_preprocessor.type': 'mmtlalign.MixSegDataPreProcessor',
        'model.data_preprocessor.batch_augments': dict(probs=[0.5], augments=[mask]),
    }
    assert changes(aligned, cutmix) == {
        'model.type': 'mmtlalign.TLAlignEncoderDecoder',
        'model.target': dict(type='mmtlalign.AlignedTokenTarget'),
    }


def test_arms_of_the_study_see_as_many_images():
    for recipe in STUDY:
        config = read(f'{CLASSIFICATION}/tlalign/tlalign_{recipe}.py')
        (mask,) = config.model.train_cfg.augments
        assert mask.type == 'mmtlalign.TokenCutMix'
        assert config.train_dataloader.dataset.num_samples * config.train_cfg.max_epochs == 320000
