"""What commands look at before anything is built."""
from .data_check import check_data
from .values import check_values

__all__ = ['check_data', 'check_values']
