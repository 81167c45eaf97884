"""What the hosts do again and again is done once a process, or less."""

import gc
from functools import cache

from mmengine.config import utils
from yapf.yapflib import yapf_api


def settle() -> None:
    """To be called when all is imported.

    A config's text is laid out by yapf wherever it is logged or stored; all
    metafiles of a host are read for every base in it; and a data set has the
    garbage collector pass over all objects there are, nearly all of which are
    what was imported.
    """
    lay_out, laid_out = yapf_api.FormatCode, {}

    def format_code(text, **style):
        if text not in laid_out:
            laid_out[text] = lay_out(text, **style)
        return laid_out[text]

    yapf_api.FormatCode = format_code
    utils.load = cache(utils.load)
    gc.collect()
    gc.freeze()
