"""Checkpointing of both kinds, as for alignment."""

from tests.test_alignment.conftest import run_checkpoint  # noqa: F401
