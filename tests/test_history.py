"""What is remembered of the endpoints beside a request."""

from __future__ import annotations

from lb.endpoint import make_endpoint
from lb.history import History
from tests.test_access_log import USUAL
from tests.test_service import NOW, new_service

A, B, C = (make_endpoint(f"10.0.0.{number}", 80, name=name, uid=name) for number, name in enumerate("abc", 1))


def test_the_endpoints_as_they_were() -> None:
    service = new_service(A, B, C._replace(ready=False))
    service.connect_failed(B.key, NOW, trial=0)
    history = History(service, lambda: NOW + 0.25)
    history.add(USUAL, is_failure=True)
    (record,) = history.recorder.failures(5)
    assert {(c.name, c.state, c.seconds_left) for c in record.candidates} == {
        ("a", "available", 0.0),
        ("b", "set aside", 0.75),
        ("c", "not ready", 0.0),
    }
    assert record.states == (("available", 1), ("not ready", 1), ("set aside", 1))


def test_many_that_fail_together_look_once() -> None:
    """At thousands of endpoints a look takes a millisecond."""
    now = [NOW]
    service = new_service(A, B)
    history = History(service, lambda: now[0])
    seen = []
    for at in (0.0, 0.05, 0.2):
        now[0] = NOW + at
        history.add(USUAL._replace(request_id=b"%f" % at), is_failure=True)
        seen.append(len(history.recorder.failures(1)[0].candidates))
        service.replace((*service.snapshot, C._replace(key=("c", "10.0.1.1", int(at * 1000)))), NOW)
    assert seen == [2, 2, 4]
