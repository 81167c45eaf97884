"""Models trained at once are those that the host's loop trains one by one."""

import json

import labels_study as study
import pytest
import stacked
import torch
from mmengine.runner import Runner
from stacked_batches import collect, load_config

CPU = torch.device('cpu')
SEEDS = [7, 8]


@pytest.fixture(scope='module', autouse=True)
def regime():
    """Two steps an epoch; the warm-up takes five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(study.REGIMES, 'o8', dict(image=24, object=8, images=100, epochs=6))
        patch.setattr(study, 'hash_of', study.hash_of.__wrapped__)  # no other regime's
        yield


@pytest.fixture(scope='module')
def batches(tmp_path_factory):
    folder = tmp_path_factory.mktemp('batches')
    for seed in SEEDS:
        collect('o8', folder, seed)
    return folder


@pytest.fixture(scope='module')
def model(batches):
    arms = list(study.ARMS)
    return stacked.train(stacked.Chunks(batches, SEEDS), arms, CPU, 12)


def train_one(arm, seed, work_dir):
    cfg = load_config(study.Unit('confirm', 'o8', arm, seed))
    cfg.val_dataloader.dataset.num_images = 10
    cfg.work_dir, cfg.log_level = str(work_dir), 'ERROR'
    cfg.default_hooks = dict(cfg.default_hooks, logger=None, checkpoint=None)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model


@pytest.mark.slow
@pytest.mark.parametrize('arm', study.ARMS)
def test_weights_are_those_of_an_ordinary_training(model, arm, tmp_path):
    index = model.arms.index(arm) * len(SEEDS) + 1
    alone = train_one(arm, SEEDS[1], tmp_path)
    for name, weight in alone.named_parameters():
        torch.testing.assert_close(model.weights[name][index], weight, rtol=0, atol=2e-5)
    moved = model.weights['head.layers.head.weight']
    assert (moved[index] - moved[0]).abs().max() > 1e-3  # of another arm or seed
    images, _ = stacked.load_images('o8', 'screen', CPU)
    found = stacked.evaluate(model, images[:5])[model.arms.index(arm), 1]
    alone.eval()
    scores = alone.head(alone.extract_feat(images[:5, None].repeat(1, 3, 1, 1))).softmax(-1)
    torch.testing.assert_close(found, scores, rtol=0, atol=1e-5)


def test_a_unit_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    scores = torch.tensor([[0.75, 0.25] + 8 * [0.0], [0.75, 0.25] + 8 * [0.0]])
    unit = study.Unit('confirm', 'o8', 'object', 7)
    stacked.keep(unit, tmp_path, scores, torch.tensor([0, 1]))
    stored = json.loads((tmp_path / unit.file.name).read_text())
    assert stored['top1'] == 50 and stored['recipe'] == unit.recipe
    assert stored['nll'] == pytest.approx(-(torch.tensor([0.75, 0.25]).log().mean().item()))
    assert stored['calibration_error'] == pytest.approx(0.25)
    assert stored['device'] == 'cpu' and stored['arm'] == 'object'


def test_nothing_of_another_run_is_taken_or_lost(tmp_path, monkeypatch):
    for folder, seed, named in ((tmp_path, '7', tmp_path), (tmp_path / 'new', '200', 'seed200')):
        monkeypatch.setattr('sys.argv', ['stacked.py', 'o8', str(folder), seed])
        with pytest.raises(stacked.UserError, match=str(named)):
            stacked.main()
    assert not (tmp_path / 'new').exists()


def test_a_collector_that_fails_is_told(tmp_path):
    class Failed:
        def poll(self):
            return 1

    with pytest.raises(stacked.UserError, match='stacked_batches.py failed'):
        stacked.Chunks(tmp_path, SEEDS, Failed()).start()
