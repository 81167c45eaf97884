"""What ``mmtlalign NAME`` and the scripts in ``tools/`` run, a module each.

Each has ``make_parser()``, its arguments, and ``main(argv=None)``.
"""
from .start_up_noise import silence_known_noise

# Before a command imports the hosts, which make it.
silence_known_noise()
