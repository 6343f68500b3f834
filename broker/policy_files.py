"""Policies from files: the file system and the YAML reader on one side, the pure loader on the other."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from api_spec.errors import InvalidConfiguration
from broker.yaml_files import read_documents
from policies.loader import default_policy_text, load_policy
from policies.policy import Policy


def policy_at(path: Path | None) -> Policy:
    """None: the policy that ships with the broker.  Raises ``InvalidConfiguration``."""
    if path is None:
        return default_policy()
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"the policy {path} cannot be read: {error}") from error
    return policy_from(text, str(path))


@cache
def default_policy() -> Policy:
    return policy_from(default_policy_text(), "default.yaml")


def policy_from(text: str, source: str) -> Policy:
    """Raises ``InvalidConfiguration``, with a fault for each error."""
    documents = read_documents(text, source, InvalidConfiguration)
    if len(documents) != 1:
        raise InvalidConfiguration(
            f"{source}: a policy file holds one document; this one has {len(documents)}"
        )
    return load_policy(text, documents[0].data, documents[0].locate, source)
