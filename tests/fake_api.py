"""A REST API that says what it is told to say, for tests of the SDK and the command line."""

import json

import httpx2

from broker.client import Client
from broker.client.contexts import Connection
from broker.client.transport import HttpTransport

URL = "http://broker.example"
JOB_ID = "01JD3Z8W6Q4R5T7Y9A0BCDEFGH"


class FakeApi:
    """``on`` scripts answers; of several for one call each is given once and the last for ever."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.slept = []

    def on(self, method, path, *answers):
        self.answers[method, path] = list(answers)

    def __call__(self, request):
        self.requests.append(request)
        left = self.answers.get((request.method, request.url.path))
        if left is None:
            return problem(404, "not_found", f"there is no {request.method} {request.url.path}")
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    @property
    def last(self):
        return self.requests[-1]

    def body(self):
        return json.loads(self.last.content)

    def wire(self, known=None, timeout=5.0):
        return HttpTransport(known or Connection(URL, "wb_secret"), timeout, httpx2.MockTransport(self))

    def client(self):
        return Client(wire=self.wire(), sleep=self.slept.append)


def problem(status, code, detail, headers=None, **extra):
    document = {"title": "no", "status": status, "code": code, "detail": detail, **extra}
    headers = {"Content-Type": "application/problem+json", **(headers or {})}
    return httpx2.Response(status, content=json.dumps(document), headers=headers)


def job(state="RUNNING", **changes):
    spec = {"kind": "training", "name": "resnet", "labels": {"team": "vision"}}
    found = {
        "id": JOB_ID,
        "version": 3,
        "spec": spec,
        "project": "vision",
        "owner": "ana",
        "state": state,
        "reason": None,
        "message": None,
        "backend": "hpc",
        "attempt": 1,
        "created_at": "2026-11-22T02:18:54.123Z",
        "started_at": None,
        "service": None,
        "cancel_requested": False,
        "held": False,
    }
    return found | changes


def summary(job_id=JOB_ID, state="RUNNING", **changes):
    whole = job(state, id=job_id, **changes)
    return {**{key: value for key, value in whole.items() if key != "spec"}, **whole["spec"]}


def decision(**changes):
    refused = {
        "backend": "k8s",
        "type": "kubernetes",
        "eligible": False,
        "refusals": [{"code": "Unsupported", "message": "asks for a batch script", "field": "/script"}],
        "score": 0.0,
        "parts": [],
        "snapshot_age_s": 1.0,
    }
    chosen = {
        "backend": "hpc",
        "type": "slurm",
        "eligible": True,
        "refusals": [],
        "score": 10.0,
        "parts": [{"rule": "training", "points": 10.0, "message": "training belongs on Slurm"}],
        "snapshot_age_s": 1.0,
    }
    found = {
        "outcome": "placed",
        "chosen": "hpc",
        "summary": "hpc: the only backend that can run it",
        "verdicts": [chosen, refused],
        "binding": False,
        "policy": "default",
        "policy_digest": "abcdef0123456789",
        "decided_at": "2026-11-22T02:18:54.123Z",
        "attempt": None,
        "warnings": [],
    }
    return found | changes
