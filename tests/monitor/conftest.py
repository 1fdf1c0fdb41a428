"""What tests of monitors share."""

from tests.support.listening import listener

__all__ = ["listener"]
