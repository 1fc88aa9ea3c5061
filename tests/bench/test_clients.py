from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from bench import clients
from bench.clients import percentile_ms, prepared, serve
from bench.load import SCENARIOS, LoadResult, Scenario
from bench.proc import BenchError

RESULT = LoadResult(10, 1000, 2.0, 0.5, 1.5, 0, 0, wrong=3)
SCENARIO = Scenario("own", "a load of our own", connections=7, client="bench.own")


def test_percentiles_are_values_that_were_there() -> None:
    hundred = [number / 1000 for number in range(1, 101)]
    assert [percentile_ms(hundred, percent) for percent in (1, 50, 99, 100)] == pytest.approx([1, 50, 99, 100])
    assert percentile_ms([0.25], 50) == percentile_ms([0.25], 99) == 250
    assert percentile_ms([], 50) == 0


class Steps:
    """A client that notes what is done with it."""

    def __init__(self) -> None:
        self.steps: list[object] = []

    def make(self, port: int, connections: int) -> Steps:
        self.steps.append((port, connections))
        return self

    def run(self, seconds: float) -> LoadResult:
        self.steps.append(seconds)
        return RESULT

    def close(self) -> None:
        self.steps.append("closed")


def test_a_client_waits_to_be_told_and_closes_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Steps()
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    serve(client.make, ["8080", "7", "2"])
    assert client.steps == [(8080, 7), 2, "closed"]
    ready, result = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert '"wrong": 3' in result


def test_a_client_that_is_not_told_makes_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Steps()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    serve(client.make, ["8080", "7", "2"])
    assert client.steps == [(8080, 7), "closed"]


def stand_in(directory: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this run in the place of the interpreter; it may append to the file that is returned."""
    notes, program = directory / "notes", directory / "python"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\nnotes = open({str(notes)!r}, 'a', 1)\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(clients.sys, "executable", str(program))
    return notes


def test_the_load_begins_when_it_is_called_and_stays_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_WATCH_SECONDS", 0.001)
    looked = tmp_path / "looked"  # the load lasts until somebody has
    notes = stand_in(
        tmp_path,
        f"""\
notes.write(' '.join(sys.argv[1:]) + '\\n')
print('ready', flush=True)
notes.write(sys.stdin.readline())
while not os.path.exists({str(looked)!r}): time.sleep(0.001)
print('''{clients.json.dumps(RESULT._asdict())}''', flush=True)
sys.stdin.read()
notes.write('closed\\n')""",
        monkeypatch,
    )
    with prepared(SCENARIO, 8080, 2, None) as run:
        assert notes.read_text() == "-m bench.own 8080 7 2\n"
        assert run(looked.touch) == RESULT
        assert notes.read_text().endswith("go\n")
    assert notes.read_text().endswith("go\nclosed\n")


@pytest.mark.parametrize("body", ["sys.exit('no room')", "print('ready', flush=True); sys.exit('no room')"])
def test_a_client_that_ends_early_is_named_with_what_it_said(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, body, monkeypatch)
    with pytest.raises(BenchError, match=r"(?s)bench\.own ended.*no room"), prepared(SCENARIO, 8080, 2, None) as run:
        run(lambda: None)


def test_a_client_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_GRACE", 0.0)
    monkeypatch.setattr(clients, "ANSWER_TIMEOUT", 0.01)
    stand_in(tmp_path, "sys.stdin.read()", monkeypatch)
    with pytest.raises(BenchError, match=r"said nothing for 0\.07 s"), prepared(SCENARIO, 8080, 2, None):
        pytest.fail("went on")


def test_wrk_makes_the_load_where_no_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def run_wrk(*arguments: object) -> LoadResult:
        asked.append(arguments)
        return RESULT

    monkeypatch.setattr(clients, "run_wrk", run_wrk)
    with prepared(SCENARIOS["small"], 8080, 2, 1) as run:
        assert asked == []
        assert run(lambda: None) is RESULT
    assert asked == [(SCENARIOS["small"], 8080, 2, 1)]
