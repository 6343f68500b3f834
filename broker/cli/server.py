"""The commands of the server's side.  Each is thin and imports what it runs when it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.output import age, columns, output_option, show

if TYPE_CHECKING:
    from broker.settings import Settings

Json = Mapping[str, Any]
STATE = ("BROKER_CONFIG", "BROKER_REDIS_URL", "BROKER_REDIS_URL_FILE")
config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="The settings file (or BROKER_CONFIG)."
)
volatile_option = click.option(
    "--allow-volatile",
    flag_value="true",
    default=None,
    help="Take a Redis that does not persist what it holds: a restart of it loses jobs.",
)

check_option = click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Start nothing: exit code 0 when one on this host did its work lately, else 1.",
)


def read_settings(config: Path | None, **options: str | None) -> Settings:
    """``options`` are settings that the command line names; they go before all others.

    Raises ``InvalidConfiguration`` with every fault.  Where nothing says which state is meant and a
    ``broker dev`` runs, it is that one's, so that its tokens and its export need no settings.
    """
    from broker.client.contexts import dev_path
    from broker.settings import load_settings

    given = {f"BROKER_{name.upper()}": text for name, text in options.items() if text is not None}
    hidden = {f"{name}_FILE" for name in given}
    environ = {name: text for name, text in os.environ.items() if name not in hidden} | given
    said = config or any(os.environ.get(name) for name in STATE)
    if said or not dev_path(os.environ).exists():
        return load_settings(config, environ)
    from broker.embedded.dev import environment_for
    from broker.embedded.server import EmbeddedServer

    data_dir = dev_path(os.environ).parent
    told = json.loads(dev_path(os.environ).read_text()).get("settings", {})
    here = environment_for(data_dir, EmbeddedServer(data_dir / "redis").url, None, told)
    return load_settings(environ={name: text for name, text in here.items() if name not in hidden} | given)


@click.command()
@config_option
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="BROKER_DATA_DIR", help="Where it keeps all."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of the API.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of the API; 0 is any free one (default)."
)
@click.option(
    "--allow-shared-local", is_flag=True, help="Local jobs for several owners, who are not isolated."
)
def dev(data_dir: Path | None, **options: Any) -> None:
    """Run everything on this machine: state, API, worker, controller, and jobs as local processes.

    Ready, it writes URL and token to DATA_DIR/dev.json, where the other commands find them.
    """
    from broker.client.contexts import dev_path
    from broker.embedded.dev import run_dev

    raise SystemExit(run_dev(data_dir or dev_path(os.environ).parent, **options))


@click.command()
@config_option
@volatile_option
def api(config: Path | None, **options: str | None) -> None:
    """Serve the REST API."""
    from broker.processes import run_api

    run_api(read_settings(config, **options))


@click.command()
@config_option
@volatile_option
@check_option
@click.option(
    "--name",
    "worker_name",
    metavar="NAME",
    help="Read the logs, too, of the backends whose log_reader is NAME.",
)
def worker(config: Path | None, only_check: bool, **options: str | None) -> None:
    """Run a worker: every call that changes something at a backend."""
    settings = read_settings(config, **options)
    if only_check:
        return say_whether_one_is_here("worker", settings)
    from broker.processes import run_worker

    run_worker(settings)


@click.command()
@config_option
@volatile_option
@check_option
def controller(config: Path | None, only_check: bool, **options: str | None) -> None:
    """Run a controller: the sweeper and the observers, each under a lease."""
    settings = read_settings(config, **options)
    if only_check:
        return say_whether_one_is_here("controller", settings)
    from broker.processes import run_controller

    run_controller(settings)


def say_whether_one_is_here(role: str, settings: Settings) -> None:
    """For health checks, whose engines know 1 for unwell and keep other codes to themselves."""
    import socket

    from api_spec.errors import StoreUnavailable
    from broker.heartbeat import ALIVE_S, is_alive, reads_logs, store_to_ask

    host = socket.gethostname()
    expected = settings.logs_read_by(settings.worker_name) if role == "worker" else ()
    try:
        with store_to_ask(settings) as store:
            found = is_alive(store, role, host)
            unread = [name for name in expected if not reads_logs(store, name, host)]
    except StoreUnavailable as error:
        raise click.ClickException(f"whether there is a {role} on {host} is unknown: {error}") from error
    if not found:
        raise click.ClickException(f"no {role} on {host} has done its round in the last {ALIVE_S:g} s")
    if unread:
        raise click.ClickException(f"no {role} on {host} reads the logs of {', '.join(unread)}")
    reads = f", and reads the logs of {', '.join(expected)}" if expected else ""
    click.echo(f"a {role} on {host} does its work{reads}")


@click.command()
@config_option
@volatile_option
def recover(config: Path | None, **options: str | None) -> None:
    """Rebuild lost state from what the backends know."""
    from broker.processes import recover as rebuild

    done = rebuild(read_settings(config, **options))
    click.echo(f"{done.jobs} jobs recovered, {done.already_there} were known")
    if done.unreachable:
        raise click.ClickException(f"not asked, because they do not answer: {', '.join(done.unreachable)}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@volatile_option
def export(file: Path, config: Path | None, **options: str | None) -> None:
    """Write the whole state to FILE, which only you can read."""
    from broker.processes import export_store

    count = export_store(read_settings(config, **options), file)
    click.echo(f"{count} records written to {file}", err=True)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@config_option
@volatile_option
def import_(file: Path, config: Path | None, **options: str | None) -> None:
    """Read FILE, written by export; a job that is there already is left as it is."""
    from broker.processes import import_store

    loaded = import_store(read_settings(config, **options), file)
    known = f", {loaded.already_there} were there" if loaded.already_there else ""
    click.echo(f"{loaded.jobs} jobs and {loaded.others} other records read from {file}{known}")


# ---- config ------------------------------------------------------------------------------------------


@click.group()
def config() -> None:
    """Check or show the settings."""


@config.command()
@config_option
def check(config: Path | None) -> None:
    """Exit code 2 with every fault of the settings."""
    from broker.policy_files import policy_at
    from broker.settings import not_read
    from broker.wiring import check_backends

    settings = read_settings(config)
    check_backends(settings)
    policy_at(settings.policy_file)
    if unread := not_read(os.environ):
        click.echo(f"not read here: {', '.join(unread)}", err=True)
    names = ", ".join(f"{backend.name} ({backend.type})" for backend in settings.backends) or "none"
    click.echo(f"the settings are valid; backends: {names}")


@config.command("show")
@config_option
def show_settings(config: Path | None) -> None:
    """Print the settings in force; passwords are left out."""
    import dataclasses

    settings = read_settings(config)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name) if field.repr else "(set)"
        if field.name == "backends":
            value = [f"{backend.name} ({backend.type})" for backend in settings.backends]
        click.echo(f"{field.name} = {value}")


# ---- tokens ------------------------------------------------------------------------------------------


@click.group()
def token() -> None:
    """Create, list and revoke tokens."""


@token.command()
@click.argument("subject")
@click.option("--project", required=True, help="The tenant whose jobs it sees.")
@click.option("--owner", help="The person it acts for; otherwise SUBJECT.")
@click.option("--group", "groups", multiple=True, help="A group of the owner, for the placement rules.")
@click.option(
    "--scope", "scopes", multiple=True, help="Such as jobs:admin; otherwise jobs:read and jobs:write."
)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=90.0, show_default=True)
@config_option
@volatile_option
def create(
    subject: str, project: str, config: Path | None, allow_volatile: str | None, **options: Any
) -> None:
    """Make a token for SUBJECT and print it; nobody can read it again."""
    from broker.auth import NewToken, scopes_from
    from broker.wiring import build

    scopes = {"scopes": scopes_from(options["scopes"])} if options["scopes"] else {}
    wanted = NewToken(
        subject=subject,
        project=project,
        owner=options["owner"],
        groups=frozenset(options["groups"]),
        lifetime_s=options["days"] * 86400,
        **scopes,
    )
    secret, record = build(read_settings(config, allow_volatile=allow_volatile)).tokens.create(wanted)
    click.echo(f"token {record['id']} of {subject} in {project}:", err=True)
    click.echo(secret)


@token.command("list")
@config_option
@volatile_option
@output_option
def list_tokens(config: Path | None, output: str | None, **options: str | None) -> None:
    """Show all tokens without their secrets."""
    from broker.wiring import build

    records = build(read_settings(config, **options)).tokens.list()
    show([dict(record) for record in records], output, lambda _: token_lines(records))


def token_lines(records: Any) -> Any:
    from api_spec.times import to_rfc3339

    head = ("ID", "SUBJECT", "OWNER", "PROJECT", "SCOPES", "EXPIRES", "AGE")
    rows = [
        (
            *(record[name] for name in ("id", "subject", "owner", "project", "scopes")),
            to_rfc3339(float(record["expires_at"])),
            age(to_rfc3339(float(record["created_at"]))),
        )
        for record in records
    ]
    return columns(head, rows)


@token.command()
@click.argument("token_id", metavar="ID")
@config_option
@volatile_option
def revoke(token_id: str, config: Path | None, **options: str | None) -> None:
    """End the token ID; processes that know it forget it within seconds."""
    from api_spec.errors import NotFound
    from broker.wiring import build

    if not build(read_settings(config, **options)).tokens.revoke(token_id):
        raise NotFound(f"there is no token {token_id}; broker token list shows them")
    click.echo(f"token {token_id} revoked; processes that know it refuse it within 5 seconds")
