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
@pytest.mark.parametrize('change, heard', [('', False), ('!', True)])
def test_exactly_the_known_messages_are_silent(capsys, message, change, heard):
    logger = MMLogger.get_instance(f'noise{change}{hash(message)}')
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn(message + change)
    assert bool(caught) == heard
    logger.warning(message + change)
    assert (message in capsys.readouterr().out) == heard
    print_log(message + change, logger=None, level=logging.DEBUG)
    assert (message in capsys.readouterr().out) == heard


def test_other_messages_pass_and_known_ones_stay_available_for_debugging(capsys, caplog):
    print_log(f'Fatal: {KNOWN_NOISE[0]}')
    assert capsys.readouterr().out == f'Fatal: {KNOWN_NOISE[0]}\n'
    MMLogger.get_instance('noise of numbers').info(np.arange(2))
    assert '[0 1]' in capsys.readouterr().out
    with caplog.at_level(logging.DEBUG):
        logging.getLogger('noise for debugging').warning(KNOWN_NOISE[0])
    assert [r.levelname for r in caplog.records] == ['DEBUG']
