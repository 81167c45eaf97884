"""What commands look at before anything is built."""
from .data_check import check_data

__all__ = ['check_data']
