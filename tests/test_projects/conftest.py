"""The studies' modules are imported as their scripts import each other."""

import sys

from ..tiny import ROOT

sys.path.insert(0, str(ROOT / 'projects/mini_study'))
