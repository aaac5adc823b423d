"""How hypothesis runs here."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unit")
