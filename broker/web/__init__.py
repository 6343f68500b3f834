"""The REST API: one module a noun, and no logic.  The only package that knows Flask and flask-smorest.

A view reads the request, calls one method of ``Broker`` and dumps what it returns; whatever is wrong is
raised as an error of ``api_spec.errors`` and becomes a problem document in ``problems``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from broker.lifecycle.broker import Broker
    from broker.settings import Settings


def create_app(broker: Broker, settings: Settings, *, limits_url: str | None = None) -> Flask:
    """``limits_url``: where requests are counted if not in the settings' Redis (``memory://`` in tests)."""
    # Not at the top: prometheus-client decides by its environment when it is loaded; ``server`` sets it.
    from broker.web.app import create_app as create

    return create(broker, settings, limits_url=limits_url)
