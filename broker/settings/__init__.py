"""The settings of all three processes: what there is (``knobs``), and how it is read (``reading``)."""

from broker.settings.knobs import ConfiguredBackend, Settings, is_loopback
from broker.settings.reading import load_settings, not_read

__all__ = ["ConfiguredBackend", "Settings", "is_loopback", "load_settings", "not_read"]
