"""How hypothesis runs here: a shared machine may stop for a moment, and examples are not kept."""

from hypothesis import settings

settings.register_profile("here", deadline=None, database=None)
settings.load_profile("here")
