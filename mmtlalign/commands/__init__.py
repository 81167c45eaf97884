"""What ``mmtlalign NAME`` and the scripts in ``tools/`` run, a module each.

Each has ``make_parser()``, its arguments, and ``main(argv=None)``.
"""

from .start_up_noise import silence_known_noise

# Before a command imports the hosts, which make it.
silence_known_noise()

from mmtlalign.output_files import let_hosts_write_whole_files  # noqa: E402

from .unreadable_files import name_unreadable_files  # noqa: E402

name_unreadable_files()
let_hosts_write_whole_files()
