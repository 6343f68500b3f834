"""The settings of all three processes: what there is (``knobs``), and how it is read (``reading``)."""

from broker.settings.knobs import Settings, is_loopback
from broker.settings.reading import load_settings

__all__ = ["Settings", "is_loopback", "load_settings"]
