"""Weights in files: read without running code, loaded without leftovers."""

from .loading import (
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
from .pretrained import check_pretrained_file, expected_weights, find_pretrained, forget_pretrained

__all__ = [
    'check_checkpoint',
    'check_finite',
    'check_hash',
    'check_pretrained_file',
    'check_weights',
    'expected_weights',
    'find_pretrained',
    'forget_pretrained',
    'get_weights',
    'hand_to_host',
    'hash8',
    'load_checkpoint_safely',
    'load_strictly',
]
