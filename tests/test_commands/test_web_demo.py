"""The page to play with: its numbers, and itself in a browser."""

import re
import socket
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mmtlalign
from mmtlalign import LabelTrace
from mmtlalign.commands import demo, web_demo
from mmtlalign.errors import UserError

from ..browser import is_too_wide, opened
from ..tiny import write_project
from ..two_processes import free_port

DIGITS = 'tlalign_deit-digits_1xb32_digits'


@pytest.fixture
def pair(tmp_path):
    return web_demo.write_examples(tmp_path)[0]


def test_a_mix_is_what_a_trace_says(pair):
    model = mmtlalign.get_model(DIGITS, pretrained=True)
    found, box = web_demo.mix(model, pair, [1, 3, 0, 2])
    assert box == (1, 3, 0, 2)
    own, partner = (torch.from_numpy(cv2.imread(path)).permute(2, 0, 1) for path in pair)
    own[:, 8:24, :16] = partner[:, 8:24, :16]  # patches of 8 px
    share = torch.ones(1, 4, 4)
    share[:, 1:3, :2] = 0
    image = model.data_preprocessor(dict(inputs=[own]))['inputs']
    for name in ('tlalign', 'contribution'):
        trace = LabelTrace(model.backbone, propagation=name)
        with torch.no_grad(), trace(share):
            feats = model.extract_feat(image)
        assert found.output_shares[name][-1] == pytest.approx(trace.output_share.item(), abs=1e-5)
        assert found.output_shares[name][0] == 0.75
        assert len(found.share_maps[name]) == 1 + len(model.backbone.layers)
    scores = model.head(feats).softmax(1)[0].detach().numpy()
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    table = web_demo.tell_labels(found)
    assert '| area (CutMix) | 0.7500 | 0.2500 |' in table
    # images of any size are mixed
    cv2.imwrite(pair[0], np.zeros((50, 90, 3), np.uint8))
    found, box = web_demo.mix(model, pair, None)
    assert found.mixed.shape == (32, 32, 3)
    assert box == (1, 3, 1, 3)


def test_a_propagation_that_a_backbone_lacks_is_left_out(tmp_path, pair):
    cfg = Config.fromfile(write_project(tmp_path))
    cfg.model.backbone = dict(type='PoolFormer', arch='s12')
    cfg.model.head.in_channels = 512
    model = mmtlalign.get_model(cfg)
    assert web_demo.offers(model, 'tlalign')
    assert not web_demo.offers(model, 'contribution')


@pytest.mark.parametrize(
    'box, fitted',
    [
        ([0, 2, 1, 4], (0, 2, 1, 4)),
        ([-5, 90, 3, 3], (0, 4, 3, 4)),
        ([7, 2, 9, 9], (3, 4, 3, 4)),
        ([1.0, 2.0, 0.0, 1.0], (1, 2, 0, 1)),
    ],
)
def test_a_box_from_a_browser_is_brought_on_the_grid(box, fitted):
    assert web_demo.fit_box(box, (4, 4)) == fitted


@pytest.mark.slow
def test_only_models_that_are_offered_are_loaded():
    models = web_demo.Models()
    assert models.start == DIGITS
    assert not {*models.classifiers} & {*models.others}
    with pytest.raises(UserError, match="'/etc/passwd' is none of the models"):
        models.classifier('/etc/passwd')


def test_without_gradio_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(web_demo, 'gr', None)
    with pytest.raises(UserError, match=r'needs gradio: pip install "mmtlalign\[web\]"'):
        demo.main(['--web'])


@pytest.fixture(scope='module')
def address():
    """Of the page, served as the command does."""
    gradio = pytest.importorskip('gradio', reason='gradio is not installed; pip install gradio')
    largest = Image.MAX_IMAGE_PIXELS
    port = free_port()
    served = threading.Thread(target=demo.main, args=(['--web', '--port', port],), daemon=True)
    served.start()
    while not answers(port):
        assert served.is_alive()
        time.sleep(0.2)
    yield f'http://127.0.0.1:{port}'
    gradio.close_all()
    Image.MAX_IMAGE_PIXELS = largest


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', int(port))) == 0


def labels(page):
    """Shares of A, label by label."""
    rows = re.findall(r'^(\w+).*?\t([\d.]+)\t', page.inner_text('#labels'), re.MULTILINE)
    return [float(share) for _, share in rows]


@pytest.mark.slow
def test_dragging_the_box_changes_the_numbers(address, pair):
    with opened(address) as (page, errors):
        page.wait_for_selector('#labels td')
        before = labels(page)
        assert before[0] == 0.75 and len(before) == 3
        page.locator('#picker .corner').scroll_into_view_if_needed()
        area = page.locator('#picker svg').bounding_box()
        corner = page.locator('#picker .corner').bounding_box()
        page.mouse.move(corner['x'] + corner['width'] / 2, corner['y'] + corner['height'] / 2)
        page.mouse.down()
        page.mouse.move(area['x'] + area['width'], area['y'] + area['height'], steps=4)
        page.mouse.up()
        page.wait_for_function("document.querySelector('#labels').innerText.includes('0.4375')")
        after = labels(page)
        found, _ = web_demo.mix(mmtlalign.get_model(DIGITS, True), pair, [1, 4, 1, 4])
        shares = [found.output_shares[name][-1] for name in ('tlalign', 'contribution')]
        assert after[0] == 1 - 9 / 16
        assert after[1:] == pytest.approx(shares, abs=1e-4)
        assert page.locator('#maps img').evaluate('i => i.naturalWidth') > 500
        assert errors == []


@pytest.mark.slow
def test_a_narrow_screen_and_a_large_file(address, tmp_path):
    large = tmp_path / 'large.png'
    large.write_bytes(b'\x89PNG' + bytes(11_000_000))
    with opened(address, width=360) as (page, errors):
        page.wait_for_selector('#labels td')
        assert not is_too_wide(page)
        assert errors == []
        page.locator('.photograph').first.get_by_label('Remove').click()
        page.set_input_files('.photograph input[type=file] >> nth=0', large)
        page.wait_for_selector('text=exceed the maximum allowed size of 10.0 Mb')
