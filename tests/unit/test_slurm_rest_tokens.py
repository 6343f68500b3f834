"""Tokens for slurmrestd: where they come from, when they are renewed, and that nobody gets to read them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import traceback

import pytest

from adapters.slurm.options import Options, TokenSource, Users
from adapters.slurm.rest.tokens import Token, Tokens, sign
from adapters.slurm.transport import NotAuthenticated, Refused

NOW = 1_795_000_000.0


def tokens(source, clock=lambda: NOW, service="broker"):
    options = Options(directory="/tmp", token=source, users=Users(service=service))
    return Tokens(options, clock)


def headers(source, user=None, **more):
    return tokens(source, **more).identity(user).headers


def claims(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "jwt.key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_text(sign(b"k", "slurm", NOW, 300).text)
    return path


def printing(tmp_path, text, status=0):
    """A command that prints the text and counts its runs."""
    count = tmp_path / "runs"
    code = f"import sys; open({str(count)!r}, 'a').write('.'); print({text!r}); sys.exit({status})"
    return (sys.executable, "-c", code), lambda: len(count.read_text())


# ---- signed with the cluster's key -------------------------------------------------------------------


def test_a_token_is_signed_for_each_user(key):
    source = TokenSource(key_file=str(key), lifespan_s=120)

    sent = headers(source, "ana")

    assert sent["X-SLURM-USER-NAME"] == "ana"
    assert claims(sent["X-SLURM-USER-TOKEN"]) == {"iat": NOW, "exp": NOW + 120, "sun": "ana"}


def test_the_signature_is_hs256_with_the_bytes_of_the_key(key):
    body, _, signature = headers(TokenSource(key_file=str(key)), "ana")["X-SLURM-USER-TOKEN"].rpartition(".")

    expected = hmac.digest(key.read_bytes(), body.encode(), hashlib.sha256)
    assert base64.urlsafe_b64decode(signature + "=") == expected
    assert json.loads(base64.urlsafe_b64decode(body.split(".")[0] + "=="))["alg"] == "HS256"


def test_a_service_identity_acts_in_the_name_of_the_jobs_user(key):
    source = TokenSource(key_file=str(key), user="slurm")

    sent = headers(source, "ana")

    assert (claims(sent["X-SLURM-USER-TOKEN"])["sun"], sent["X-SLURM-USER-NAME"]) == ("slurm", "ana")
    assert headers(source)["X-SLURM-USER-NAME"] == "slurm"


@pytest.mark.parametrize("service, reader", [("broker", "broker"), (None, "root")])
def test_who_holds_the_key_reads_as_the_service_user_or_as_root(key, service, reader):
    assert (
        claims(headers(TokenSource(key_file=str(key)), service=service)["X-SLURM-USER-TOKEN"])["sun"]
        == reader
    )


def test_a_signed_token_is_kept_and_renewed_before_it_expires(key):
    clock = Clock()
    some = tokens(TokenSource(key_file=str(key), lifespan_s=100), clock)
    first = some.identity("ana").token

    clock.now += 79
    assert some.identity("ana").token is first

    clock.now += 1
    assert claims(some.identity("ana").token.text)["exp"] == NOW + 180


@pytest.mark.parametrize("content", [None, b""])
def test_a_key_that_is_missing_or_empty_is_said(tmp_path, content):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(NotAuthenticated, match="key"):
        headers(TokenSource(key_file=str(path)))


# ---- from a file -------------------------------------------------------------------------------------


def test_a_file_is_read_again_when_it_has_changed(file):
    some = tokens(TokenSource(file=str(file)))
    first = some.identity(None).token

    assert some.identity(None).token is first

    file.write_text(sign(b"k", "slurm", NOW + 1, 300).text)
    os.utime(file, ns=(1, 1))
    assert claims(some.identity(None).token.text)["iat"] == NOW + 1


def test_a_file_is_read_again_when_its_token_was_refused(file):
    """Replaced within the same tick of the file system's clock, by text of the same length."""
    some = tokens(TokenSource(file=str(file)))
    first = some.identity(None)
    stamp = os.stat(file).st_mtime_ns
    file.write_text(sign(b"k", "slurm", NOW + 1, 300).text)
    os.utime(file, ns=(stamp, stamp))

    some.refused(first)

    assert some.identity(None).token.text != first.token.text


@pytest.mark.parametrize("text", ["SLURM_JWT={}\n", "  {}  \n", "{}"])
def test_what_scontrol_prints_is_taken_off_the_token(file, text):
    token = file.read_text()
    file.write_text(text.format(token))

    sent = headers(TokenSource(file=str(file)))

    assert sent == {"X-SLURM-USER-TOKEN": token, "X-SLURM-USER-NAME": "slurm"}


def test_a_token_that_tells_no_user_speaks_for_the_configured_one(file):
    file.write_text("opaque")

    assert headers(TokenSource(file=str(file), user="svc"))["X-SLURM-USER-NAME"] == "svc"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", b"\xff\xfe", None])
def test_a_file_without_a_token_is_said(tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(NotAuthenticated, match="token"):
        headers(TokenSource(file=str(path)))


# ---- from a command ----------------------------------------------------------------------------------


def test_a_command_is_run_again_only_shortly_before_its_token_expires(tmp_path):
    command, runs = printing(tmp_path, "SLURM_JWT=" + sign(b"k", "slurm", NOW, 100).text)
    clock = Clock()
    some = tokens(TokenSource(command=command), clock)

    some.identity("ana")
    clock.now += 79
    some.identity(None)
    assert runs() == 1

    clock.now += 1
    some.identity(None)
    assert runs() == 2


def test_a_token_without_an_expiry_is_kept_as_long_as_the_operator_said(tmp_path):
    command, runs = printing(tmp_path, "opaque")
    clock = Clock()
    some = tokens(TokenSource(command=command, lifespan_s=50, user="svc"), clock)

    some.identity(None)
    clock.now += 41
    some.identity(None)

    assert runs() == 2


def test_a_command_that_fails_is_said_and_what_it_printed_is_not(tmp_path):
    command, _ = printing(tmp_path, "SLURM_JWT=secret", status=3)

    with pytest.raises(NotAuthenticated, match="ended with 3") as raised:
        headers(TokenSource(command=command))

    assert "secret" not in told(raised.value)


def test_a_command_that_does_not_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.slurm.rest.tokens.COMMAND_S", 0.2)
    code = "import sys, threading; print('SLURM_JWT=secret', flush=True); threading.Event().wait()"

    with pytest.raises(NotAuthenticated, match="did not end within") as raised:
        headers(TokenSource(command=(sys.executable, "-c", code)))

    assert "secret" not in told(raised.value)


def test_a_command_that_is_not_there_is_said():
    with pytest.raises(NotAuthenticated, match="nowhere"):
        headers(TokenSource(command=("/nowhere/token",)))


# ---- nobody reads it ---------------------------------------------------------------------------------


def told(error):
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_token_is_not_in_what_a_debugger_prints(key):
    some = tokens(TokenSource(key_file=str(key)))
    identity = some.identity("ana")

    printed = f"{identity!r} {identity.token!r} {some!r} {Token('secret')!r}"

    assert identity.token.text not in printed
    assert "secret" not in printed


@pytest.mark.parametrize("user", ["ana\r\nX-Admin: 1", "", " ", "añа", "a b"])
def test_a_name_that_cannot_stand_in_a_header_is_refused(key, user):
    with pytest.raises(Refused, match="no name"):
        headers(TokenSource(key_file=str(key)), user)


def test_without_a_token_nothing_is_said_about_who_calls():
    """A unix socket with rest_auth/local: slurmrestd sees who it is."""
    assert headers(None, "ana") == {}
