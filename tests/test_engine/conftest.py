import pytest


@pytest.fixture(autouse=True)
def no_description_of_the_machine(monkeypatch):
    """Its compilers and devices take a second to find."""
    from mmengine.runner import Runner

    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
