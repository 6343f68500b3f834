"""The command ``broker``: the table of its commands, the options of all, and errors as exit codes.

A command's module is imported when it is used, so that the help and the small commands start at once.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from broker.cli.session import Session

# fmt: off
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Jobs": {
        "submit":    ("submit:submit",       "Submit jobs from YAML, JSON or sbatch files."),
        "get":       ("jobs:get",            "Show jobs, all or those named."),
        "list":      ("jobs:get",            "The same as get."),
        "wait":      ("wait:wait",           "Wait for jobs; their failure is the exit code."),
        "logs":      ("logs:logs",           "Print what a job wrote."),
        "usage":     ("usage:usage",         "Show what a job was given and has used."),
        "events":    ("logs:events",         "Print what happened in the project, or to a job."),
        "cancel":    ("act:cancel",          "Cancel jobs, named or selected, or single tasks of an array."),
        "hold":      ("act:hold",            "Keep jobs from being started."),
        "release":   ("act:release",         "Let held jobs go on."),
        "resubmit":  ("act:resubmit",        "Submit the specs of jobs again, as new jobs."),
        "scale":     ("act:scale",           "Change how many replicas an inference job has."),
        "update":    ("act:update",          "Change a service, or the time limit or priority of a job."),
    },
    "Placement": {
        "explain":   ("explain:explain",     "Why a job is where it is, or waits: every backend."),
        "render":    ("explain:render",      "The script or manifest a backend would be sent."),
        "backends":  ("backends:backends",   "Show backends; check, drain, pause, resume them."),
    },
    "Server": {
        "dev":        ("server:dev",         "Everything on this machine, with nothing else installed."),
        "api":        ("server:api",         "Serve the REST API."),
        "worker":     ("server:worker",      "Run a worker, which talks to the backends."),
        "controller": ("server:controller",  "Run a controller, which sweeps and observes."),
        "recover":    ("server:recover",     "Rebuild lost state from what the backends know."),
        "export":     ("server:export",      "Write the whole state to a file."),
        "import":     ("server:import_",     "Read a file of export into an empty store."),
        "config":     ("server:config",      "Check or show the settings."),
        "token":      ("server:token",       "Create, list and revoke tokens."),
    },
}
# fmt: on
COMMANDS = {name: row for section in SECTIONS.values() for name, row in section.items()}


class LazyGroup(click.Group):
    """Help comes from the table above; a command is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"broker.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see broker --help"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Every error that a user can meet becomes one message and an exit code."""
        try:
            return super().invoke(ctx)
        except click.ClickException:
            raise
        except KeyboardInterrupt:
            from broker.cli.failures import INTERRUPTED

            click.echo(err=True)  # behind the ^C of the terminal
            ctx.exit(INTERRUPTED)
        except Exception as error:
            from broker.cli.failures import report

            code = report(error)
            if code is None:
                raise
            ctx.exit(code)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 well, 1 a job failed, 2 wrong usage, 3 refused by the broker, "
    "4 no broker answers, 5 the time to wait is over, 130 Ctrl-C.",
)
@click.option("--url", metavar="URL", help="Where the broker is (or BROKER_URL).")
@click.option("--context", metavar="NAME", help="One of the configuration file (or BROKER_CONTEXT).")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86400),
    default=30.0,
    show_default=True,
    help="Seconds for one call.",
)
@click.version_option(package_name="workload-broker", prog_name="broker")
@click.pass_context
def main(ctx: click.Context, url: str | None, context: str | None, timeout: float) -> None:
    """One door to Slurm, Kubernetes and this machine: submit a job, and see where it runs and why."""
    session = ctx.ensure_object(Session)
    if timeout != timeout:  # NaN is in every range
        raise click.UsageError("--timeout is a number of seconds")
    session.url, session.context, session.timeout = url, context, timeout
    ctx.call_on_close(session.close)
    if os.environ.get("NO_COLOR"):
        ctx.color = False


if __name__ == "__main__":
    main(prog_name="broker")
