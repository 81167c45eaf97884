"""Files are predicted as the arrays are that a model was trained on."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope

from mmtlalign.apis import build_inference, get_model

from ..conftest import needs_operators
from ..test_commands.test_dense_tasks import DETECTOR, SEGMENTER
from ..tiny import CONFIG


def write(path, image):
    """An RGB image as a PNG; its path."""
    cv2.imwrite(str(path), image[..., ::-1])
    return str(path)


def score_of_array(model, array):
    """What a model says of an array that its data set might hold."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        steps = model.cfg.test_dataloader.dataset.pipeline
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        (sample,) = model.test_step(pseudo_collate([pipeline(dict(img=array))]))
    return sample.pred_score


def scores_of_file(predict, path):
    """All scores, through the function that the demo calls."""
    found = []
    forward = predict.host.forward
    predict.host.forward = lambda *args: found.append(forward(*args)) or found[-1]
    words = predict(path)[1]
    del predict.host.forward
    ((sample,),) = found
    assert f'({sample.pred_score.max():.2f})' in words
    return sample.pred_score


@pytest.mark.slow
@pytest.mark.parametrize('to_rgb', [False, True])
def test_a_file_and_the_array_of_it_have_equal_scores(tmp_path, to_rgb):
    """A random classifier of RGB arrays in memory, whichever way it was trained."""
    (tmp_path / 'a.py').write_text(CONFIG)
    cfg = Config.fromfile(tmp_path / 'a.py')
    for phase in ('train', 'val', 'test'):
        cfg[f'{phase}_dataloader'].dataset.pipeline = [dict(type='PackInputs')]
    cfg.data_preprocessor.to_rgb = to_rgb
    path = str(tmp_path / 'a.pth')
    model = get_model(cfg)
    torch.nn.init.normal_(model.head.layers.head.weight)
    torch.save(dict(state_dict=model.state_dict()), path)
    predict = build_inference(cfg, path, 'cpu')
    for i in range(2):
        array = np.random.randint(0, 256, (16, 16, 3), np.uint8)
        expected = score_of_array(model, array)
        found = scores_of_file(predict, write(tmp_path / f'{i}.png', array))
        torch.testing.assert_close(found, expected)
        swapped = score_of_array(model, array[..., ::-1].copy())
        assert (swapped - expected).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, to_rgb',
    [(DETECTOR, False), (DETECTOR, True), (SEGMENTER, True)],
    ids=['detector', 'rgb', 'segmenter'],
)
def test_dense_models_see_a_file_as_in_a_test(tmp_path, config, to_rgb):
    needs_operators()
    (tmp_path / 'a.py').write_text(config)
    cfg = Config.fromfile(tmp_path / 'a.py')
    cfg.model.data_preprocessor.update(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=to_rgb)
    meta = dict(dataset_meta=dict(classes=('a', 'b'), palette=[[0, 0, 0], [255, 0, 0]]))
    torch.save(dict(state_dict=get_model(cfg).state_dict(), meta=meta), tmp_path / 'a.pth')
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    path = write(tmp_path / 'red.png', red)
    predict = build_inference(cfg, str(tmp_path / 'a.pth'), 'cpu')
    seen = []
    predict.host.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    predict(path)
    colour = seen[0][0, :, 0, 0].tolist()
    assert colour == ([255, 0, 0] if to_rgb else [0, 0, 255])
