import logging
import warnings

import numpy as np
import pytest
from mmengine.logging import MMLogger, print_log
from mmengine.logging import logger as mmengine_logger

from mmtlalign.commands.start_up_noise import KNOWN_NOISE, silence_known_noise


@pytest.fixture(autouse=True)
def silenced(monkeypatch):
    """Silence for one test; undone afterwards."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(mmengine_logger, 'print', print, raising=False)
    with warnings.catch_warnings():
        silence_known_noise()
        yield
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize('message', KNOWN_NOISE)
def test_exactly_the_known_messages_are_silent(capsys, caplog, message):
    for said, heard in ((message, False), (f'{message}!', True), (f'Fatal: {message}', True)):
        logger = MMLogger.get_instance(f'noise{hash(said)}')
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn(said)
        assert bool(caught) == heard
        logger.warning(said)
        assert (said in capsys.readouterr().out) == heard
        print_log(said, logger=None, level=logging.DEBUG)
        assert (capsys.readouterr().out == f'{said}\n') == heard
    with caplog.at_level(logging.DEBUG):  # which shows them
        logging.getLogger('noise for debugging').warning(message)
    assert [record.levelname for record in caplog.records] == ['DEBUG']


def test_messages_that_are_no_text_pass(capsys):
    MMLogger.get_instance('noise of numbers').info(np.arange(2))
    assert '[0 1]' in capsys.readouterr().out
