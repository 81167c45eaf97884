from .checkpoint import check_checkpoint
from .command_line import add_common_arguments, check_file, load_config
from .data_check import check_data
from .distributed import use_gloo_without_gpu
from .errors import UserError, one_line_errors
from .threads import free_cores, set_threads

__all__ = [
    'UserError', 'add_common_arguments', 'check_checkpoint', 'check_data',
    'check_file', 'free_cores', 'load_config', 'one_line_errors',
    'set_threads', 'use_gloo_without_gpu'
]
