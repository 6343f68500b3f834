"""The token that ``broker dev`` keeps from one run to the next."""

import pytest

from broker.client.contexts import write_private
from broker.client.errors import NotConfigured
from broker.embedded.dev import kept_secret


def test_what_was_kept_is_read_back(tmp_path):
    write_private(tmp_path / "token", {"token": "wb_x"})

    assert kept_secret(tmp_path / "token") == "wb_x"
    assert kept_secret(tmp_path / "none") is None


@pytest.mark.parametrize("content", ['{"token": 5}', "{}"])
def test_a_token_file_without_its_form_is_not_replaced_in_silence(tmp_path, content):
    """A new token would leave the old one good, and nobody would know where it is."""
    (tmp_path / "token").write_text(content)
    (tmp_path / "token").chmod(0o600)

    with pytest.raises(NotConfigured, match=r'must hold \{"token": "wb_..."\}'):
        kept_secret(tmp_path / "token")
