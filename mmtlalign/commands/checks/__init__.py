"""What commands look at before anything is built."""
from .class_names import classes_in, warn_of_start
from .data_check import check_data, training_classes
from .findings import report
from .picture import draw_samples

__all__ = [
    'check_data', 'classes_in', 'draw_samples', 'report',
    'training_classes', 'warn_of_start'
]
