"""Processes are found by their control group, faults are undone, and what did not happen is an error."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.drills import drivers
from tests.drills.drivers import API_SERVER, KUBELET, KindDriver, ScriptDriver, find_driver
from tests.drills.faults import Faults, container_id, count_established, read_dropped, read_processes
from tests.drills.kubectl import DrillError, Kubectl

POD = {
    "metadata": {"namespace": "podlb", "name": "backend-1", "uid": "0a-1b"},
    "spec": {"nodeName": "node-1"},
    "status": {
        "hostIP": "10.99.0.2",
        "containerStatuses": [{"name": "backend", "containerID": "containerd://c0ffee", "restartCount": 0}],
    },
}


def stat_line(pid: int, name: str, state: str, started: int) -> str:
    return f"{pid} ({name}) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {started} 20 21\n"


def listing(*lines: str, uptime: float = 100.0) -> str:
    return f"{uptime} 50.0\n" + "".join(lines)


class Node:
    """A driver that answers from a list and notes what was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.commands: list[tuple[str, ...]] = []
        self.parts: list[str] = []

    def on_node(self, node: str, *command: str) -> str:
        assert node == "node-1"
        self.commands.append(command)
        return self.answers.pop(0)

    def pause(self, part: str) -> None:
        self.parts.append(f"pause {part}")

    def resume(self, part: str) -> None:
        self.parts.append(f"resume {part}")

    def kill(self, part: str) -> None:
        self.parts.append(f"kill {part}")

    def start(self, part: str) -> None:
        self.parts.append(f"start {part}")


class Api(Kubectl):
    """kubectl whose API server answers or not, in turn."""

    def __init__(self, *answers: bool) -> None:
        super().__init__("kubectl")
        self._answers = list(answers)

    def answers(self, seconds: float) -> bool:
        return self._answers.pop(0)


def test_processes() -> None:
    output = listing(stat_line(7, "python", "S", 9000), stat_line(8, "a (b) c", "R", 9950), stat_line(9, "x", "Z", 1))
    assert read_processes(output) == [(7, "python", 10.0), (8, "a (b) c", 0.5)]
    assert read_processes(listing()) == []


def test_our_own_process_is_read_from_proc() -> None:
    output = Path("/proc/uptime").read_text() + Path("/proc/self/stat").read_text()
    (process,) = read_processes(output)
    assert process.pid == os.getpid()
    assert 0 <= process.age < 3600


def test_dropped_packets() -> None:
    chain = """Chain podlb-drill (1 references)
    pkts      bytes target     prot opt in     out     source               destination
       9      540 RETURN     all  --  *      *       10.244.0.1           0.0.0.0/0            TTL match TTL == 64
     123     7380 DROP       all  --  *      *       0.0.0.0/0            0.0.0.0/0
"""
    assert read_dropped(chain) == 123
    with pytest.raises(DrillError, match="counted nothing"):
        read_dropped("")


def test_established_connections() -> None:
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0500F40A:1F90 0900F40A:C350 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0500F40A:C351 0900F40A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0500F40A:1F90 0900F40A:C352 06 00000000:00000000 00:00000000 00000000     0        0 4
"""
    assert count_established(table, 8080) == 1


def test_the_id_of_a_container() -> None:
    assert container_id(POD, "backend") == "c0ffee"
    assert container_id(POD, "lb") == ""
    assert container_id({"status": {}}, "backend") == ""


def test_a_process_is_killed_and_gone() -> None:
    alive = listing(stat_line(7, "python", "S", 9000))
    node = Node(alive, "", alive, listing())
    assert Faults(node, Api()).kill_process(POD, "backend") == 7
    assert node.commands[0][-2:] == ("c0ffee", "c0ffee")
    assert node.commands[1] == ("sh", "-c", "kill -KILL 7")
    assert node.answers == []


def test_a_container_without_a_process() -> None:
    with pytest.raises(DrillError, match="no process of backend-1/backend is on its node"):
        Faults(Node(listing()), Api()).process(POD, "backend")


def test_a_sandbox_is_killed() -> None:
    alive = listing(stat_line(7, "python", "S", 9000), stat_line(6, "pause", "S", 8000))
    node = Node(alive, "", listing(stat_line(9, "pause", "S", 9999)))
    assert Faults(node, Api()).kill_sandbox(POD) == 6
    assert node.commands[0][-2:] == ("pod0a-1b", "pod0a_1b")
    with pytest.raises(DrillError, match="0 processes called pause"):
        Faults(Node(listing()), Api()).kill_sandbox(POD)


def test_a_log_on_its_node() -> None:
    node = Node(
        "2026-11-23T06:25:01.1Z stdout F [backend] one\n2026-11-23T06:25:01.2Z stderr F two\n2026-11-23T06:25:01.3Z std"
    )
    assert Faults(node, Api()).log(POD, "backend", 5) == ["[backend] one", "two"]
    assert "timeout 5 tail -q -n +1 -f /var/log/pods/podlb_backend-1_0a-1b/backend/*.log" in node.commands[0][2]


def test_an_api_server_that_is_frozen() -> None:
    node = Node()
    with Faults(node, Api(False, True)).frozen_api():
        assert node.parts == [f"pause {API_SERVER}"]
    assert node.parts == [f"pause {API_SERVER}", f"resume {API_SERVER}"]


def test_a_fault_that_did_not_happen_is_an_error_and_is_undone() -> None:
    node = Node()
    with pytest.raises(DrillError, match="was frozen, and it answers"), Faults(node, Api(True)).frozen_api():
        pytest.fail("it was not frozen")
    assert node.parts[-1] == f"resume {API_SERVER}"
    with pytest.raises(DrillError, match="was killed, and it answers"), Faults(node, Api(True)).killed_api():
        pytest.fail("it was not killed")
    assert node.parts[-1] == f"start {API_SERVER}"


def test_a_drill_that_fails_leaves_no_fault_behind() -> None:
    node = Node()
    with pytest.raises(KeyboardInterrupt), Faults(node, Api()).dead_kubelet():
        raise KeyboardInterrupt
    assert node.parts == [f"kill {KUBELET}", f"start {KUBELET}"]
    # process, open connections, the rules, their removal
    node = Node(listing(stat_line(7, "python", "S", 9000)), "header\n", "", "")
    with pytest.raises(KeyboardInterrupt), Faults(node, Api()).silence(POD, "backend", 8080):
        raise KeyboardInterrupt
    assert node.answers == []
    assert "-X podlb-drill" in node.commands[-1][4]


def program(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


CONFIG = """
for word in "$@"; do case $word in
  --kubeconfig=*) echo "$OWN"; exit ;;
  *current-context*) echo "$CONTEXT"; exit ;;
esac; done
echo "$SERVER"
"""


def test_the_script_is_for_its_own_cluster_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.touch()
    script = program(tmp_path, "cluster.sh", f'echo "{config}"\n')
    kubectl = Kubectl(program(tmp_path, "kubectl", CONFIG))
    monkeypatch.setenv("PODLB_CLUSTER", script)
    monkeypatch.setenv("OWN", "https://10.99.0.2:6443")
    monkeypatch.setenv("CONTEXT", "mine")
    monkeypatch.setenv("SERVER", "https://10.99.0.2:6443")
    assert isinstance(find_driver(kubectl), ScriptDriver)
    monkeypatch.setenv("SERVER", "https://192.0.2.1:6443")
    assert find_driver(kubectl) is None
    monkeypatch.delenv("PODLB_CLUSTER")
    assert find_driver(kubectl) is None


def test_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, ...]] = []

    def execute(*command: str, seconds: float = 60.0) -> str:
        done.append(command)
        return ""

    monkeypatch.setattr(drivers, "execute", execute)
    driver = KindDriver("c", ("c", "w"))
    driver.pause(API_SERVER)
    driver.kill(KUBELET)
    assert done[0] == ("docker", "exec", "c", "pkill", "-STOP", "-x", "kube-apiserver")
    assert [command[2] for command in done[1:]] == ["c", "c", "w", "w"]
    done.clear()
    driver.kill(API_SERVER)
    driver.start(API_SERVER)
    assert [command[3] for command in done] == ["mv", "pkill", "mv"]
    assert done[0][4:] == done[2][4:][::-1], "the manifest is where it was"


def test_a_command_that_fails_says_so_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(DrillError, match=r"broken: it is broken$"):
        drivers.execute(program(tmp_path, "broken", "echo one >&2; echo it is broken >&2; exit 3\n"))
    with pytest.raises(DrillError, match="No such file"):
        drivers.execute(str(tmp_path / "missing"))


def test_waiting_has_an_end() -> None:
    with pytest.raises(DrillError, match=r"the end of time: not within 0\.05 s"):
        drivers.wait_until(lambda: False, "the end of time", 0.05)
