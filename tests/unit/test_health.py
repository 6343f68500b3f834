"""Which errors say that a backend is down, and which that it is there and has answered."""

import pytest

from adapters.errors import BackendError, Busy, OutcomeUnknown, Rejected
from api_spec.reasons import Reason
from broker.lifecycle.health import says_that_it_is_down


@pytest.mark.parametrize(
    ("error", "is_down"),
    [
        (Busy("refused connection", reason=Reason.BACKEND_DOWN), True),
        (OutcomeUnknown("no answer"), True),
        (BackendError("nobody knows what"), True),
        (Busy("429, too many requests"), False),
        (Busy("the queue is full", reason=Reason.CAPACITY), False),
        (Busy("the quota is used up", reason=Reason.QUOTA_EXCEEDED), False),
        (Rejected("never"), False),
    ],
)
def test_only_what_did_not_answer_is_down(error, is_down):
    assert says_that_it_is_down(error) is is_down
