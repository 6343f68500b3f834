"""The REST API: one module a noun, and no logic.  The only package that knows Flask and flask-smorest.

A view reads the request, calls one method of ``Broker`` and dumps what it returns; whatever is wrong is
raised as an error of ``api_spec.errors`` and becomes a problem document in ``problems``.
"""

from broker.web.app import create_app

__all__ = ["create_app"]
