"""Recipes of token labels: images, labels and the steps that move both."""

from .recipes import read, tracked

FOLDER = 'configs/classification/tokenlabel'
CONFIGS = tracked(FOLDER)
LABELLED = [path for path in CONFIGS if '/tokenlabel_' in path]


def test_list_is_complete():
    assert len(CONFIGS) == 13 and len(LABELLED) == 10


def test_only_transforms_that_carry_labels_move_images():
    for path in LABELLED:
        pipeline = read(path).train_dataloader.dataset.pipeline
        kinds = [step.type for step in pipeline]
        for kind in kinds[kinds.index('mmtlalign.LoadTokenLabels') :]:
            assert kind.startswith('mmtlalign.') or kind in ('RandomErasing', 'PackInputs')
        assert pipeline[-1].algorithm_keys == ('token_labels',)
        assert kinds.index('mmtlalign.RandomFlip') < kinds.index('mmtlalign.RandomResizedCrop')


def test_annotator_sees_the_same_images():
    annotator, training = (
        read(f'{FOLDER}/{name}_1xb128_cifar10.py').train_dataloader.dataset
        for name in ('annotator_resnet-mini', 'tokenlabel_lvvit-mini')
    )
    annotator.pop('pipeline')
    training.pop('pipeline')
    assert annotator == training


def test_fine_tuning_starts_where_pretraining_ends():
    for path in (path for path in CONFIGS if path.endswith('px.py')):
        config = read(path)
        _, name, file = config.load_from.split('/')
        before = read(f'{FOLDER}/{name}.py')
        assert file == f'epoch_{before.train_cfg.max_epochs}.pth'
        assert before.model.backbone.arch == config.model.backbone.arch
        assert before.model.head == config.model.head
