from .channel_order import (
    channel_order,
    for_files,
    in_order,
    reads_files,
    trained_order,
)
from .checkpoint import (
    check_checkpoint,
    check_finite,
    check_hash,
    check_weights,
    get_weights,
    hand_to_host,
    hash8,
    load_checkpoint_safely,
    load_strictly,
)
from .command_line import (
    add_cfg_options,
    add_common_arguments,
    add_trust_argument,
    check_absent,
    check_file,
    load_config,
    make_folder_of,
    make_out_folder,
    make_work_dir,
)
from .data_check import check_data
from .distributed import use_gloo_without_gpu
from .encoder_features import encoder_features
from .errors import UserError, one_line_errors
from .host_check import check_device, check_host, check_sync_bn
from .noise import keep_parameter_options_off_console, silence_known_noise
from .pretrained import (
    check_pretrained_file,
    expected_weights,
    find_pretrained,
    forget_pretrained,
)
from .resources import check_class, find_config, open_config
from .test_time_augmentation import use_tta
from .threads import free_cores, set_threads

__all__ = [
    'UserError', 'add_cfg_options', 'add_common_arguments',
    'add_trust_argument', 'channel_order', 'check_absent', 'check_checkpoint',
    'check_class', 'check_data', 'check_device', 'check_file', 'check_finite',
    'check_hash', 'check_host', 'check_pretrained_file', 'check_sync_bn',
    'check_weights', 'encoder_features', 'expected_weights', 'find_config',
    'find_pretrained', 'for_files', 'forget_pretrained', 'free_cores',
    'get_weights', 'hand_to_host', 'hash8', 'in_order',
    'keep_parameter_options_off_console', 'load_checkpoint_safely',
    'load_config', 'load_strictly', 'make_folder_of', 'make_out_folder',
    'make_work_dir', 'one_line_errors', 'open_config', 'reads_files',
    'set_threads', 'silence_known_noise', 'trained_order',
    'use_gloo_without_gpu', 'use_tta'
]
