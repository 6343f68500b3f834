"""Which file an attempt's log is, and whose."""

from __future__ import annotations

import pytest

from adapters.base import LogQuery
from adapters.slurm import logs
from tests.slurm_kit import MARKER, OWNER, options, ref
from tests.slurm_rows import row


@pytest.fixture
def homes(tmp_path):
    for user in (OWNER, "ben"):
        (tmp_path / user).mkdir()
    return tmp_path


def page(homes, *rows, attempt=None, **query):
    given = options(directory=f"{homes}/{{user}}")
    return logs.page(rows, attempt or ref(), LogQuery(**query), given)


def test_a_log_is_where_the_controller_says(homes):
    """The operator has moved the directory since."""
    (homes / "ben" / f"{MARKER}.out").write_text("mine")

    found = page(homes, row("COMPLETED", name=MARKER, stdout=f"{homes}/ben/{MARKER}.out"))

    assert found.data == b"mine"


def test_a_file_that_a_user_has_named_to_the_controller_is_not_read(homes):
    """scontrol update StdOut=... of a job that waits: the file of another user, whom the broker may read."""
    (homes / "ben" / "secret.out").write_text("of ben")
    (homes / OWNER / f"{MARKER}.out").write_text("mine")

    found = page(homes, row("COMPLETED", name=MARKER, stdout=f"{homes}/ben/secret.out"))

    assert found.data == b"mine"


def test_the_log_of_one_task_is_not_that_of_another(homes):
    (homes / OWNER / f"{MARKER}_1.out").write_text("one")
    (homes / OWNER / f"{MARKER}_11.out").write_text("eleven")
    tasks = [row("RUNNING", name=MARKER, id=7 + index, array_id=7, task=index) for index in (1, 11)]

    found = page(homes, *tasks, attempt=ref(task_indices=(1, 11)), task_index=1)

    assert found.data == b"one"
