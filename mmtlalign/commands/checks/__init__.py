"""What commands look at before anything is built."""

from .class_names import check_heads, check_trained_classes, classes_in, warn_of_start
from .data_check import check_data, is_first_process, stated_in, training_classes
from .findings import report
from .picture import draw_samples
from .shared_memory import check_shared_memory
from .values import check_values

__all__ = [
    'check_data',
    'check_heads',
    'check_shared_memory',
    'check_trained_classes',
    'check_values',
    'classes_in',
    'draw_samples',
    'is_first_process',
    'report',
    'stated_in',
    'training_classes',
    'warn_of_start',
]
