"""What should have come by reference: specifications are stored and shown as they are."""

from __future__ import annotations

import re

# A name that ends like a secret, but for the special tokens of language models and what points to a file.
_SECRET = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|(^|_)(PASS|PWD|PAT)$|SECRETS?$|(^|_)SECRETS?_|CREDENTIALS?$|TOKEN$"
    r"|(API|ACCESS|PRIVATE|SECRET|SIGNING|ENCRYPTION|OPENAI|WANDB|LICEN[CS]E)_?KEYS?(_\d+)?$|ACCESS_TOKENS$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(_(FILE|PATH|DIR|NAME)|(^|_)(BOS|EOS|PAD|UNK|MASK|SEP|CLS)_TOKEN)$", re.IGNORECASE)
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]*:[^/?#@\s]+@", re.IGNORECASE)


def looks_like_a_secret(name: str, value: str) -> bool:
    """An absolute path is none, and neither is nothing."""
    if not value or value.startswith("/"):
        return False
    return has_a_password(value) or (_SECRET.search(name) is not None and _NO_SECRET.search(name) is None)


def has_a_password(uri: str) -> bool:
    """``https://user:password@host``; a user alone is none."""
    return _PASSWORD.match(uri) is not None
