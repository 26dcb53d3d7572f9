"""coil-lab: a data centre comes up, is looked at, carries pods' traffic, and goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from coil.lab.clos.faults import How
from coil.lab.clos.files import ROOT, Files
from coil.lab.clos.lab import Lab
from coil.lab.clos.main import main
from coil.lab.clos.observe import observe
from coil.lab.clos.plan import Kind, UnknownName
from coil.lab.clos.programs import find_program, programs_of
from coil.lab.host import run
from coil.lab.node import PLUGIN
from coil.lab.wait import until
from lab.conftest import COIL_LAB, in_terminal, nothing_is_left, run_lab

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
LONG = "a" * 300
"""No file can have that name."""
SMALL = ("--spines=1", "--racks=1", "--nodes-per-rack=1", "--etcd=1")


def processes(lab):
    running = programs_of(lab.files.hosts()).values()
    return {(p.name, p.pid) for programs in running for p in programs}


def beginning(name, *before):
    """A coil-lab up that has made something, and is not yet through."""
    argv = [*before, COIL_LAB, "up", *SMALL, "--name", name]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(Files(name).hosts()) > 1 or process.poll() is not None, "it has begun")
    assert process.poll() is None
    return process


def test_status_tells_all_there_is_and_that_all_of_it_is_well(lab, command):
    lab.add_pod("a", "r1n1")
    state = json.loads(command("status", "--output", "json"))
    assert state["failed"] == []
    assert [row["name"] for row in state["routers"]] == ["spine1", "spine2", "tor1", "tor2"]
    nodes = {row["name"]: row for row in state["nodes"]}
    assert {name: row["rack"] for name, row in nodes.items()} == {
        "r1n1": "r1", "r1n2": "r1", "r2n1": "r2", "r2n2": "r2"
    }  # fmt: skip
    machines = [*state["routers"], *state["nodes"], *state["etcd"]]
    for row in machines:
        assert os.path.exists(f"/run/netns/{row['namespace']}")
        assert set(row["bgp"].values()) == {"Established"}
    assert len({row["namespace"] for row in machines}) == len(machines) == 11
    assert [row["leader"] for row in state["etcd"]].count(True) == 1
    assert {row["state"] for row in state["links"]} == {"up"}
    assert len(state["links"]) == 2 * 2 + 4 + 3
    (pod,) = state["pods"]
    assert (pod["name"], pod["node"]) == ("a", "r1n1")
    inside = json.loads(command("pod", "exec", "a", "--", "ip", "-j", "addr", "show", "eth0"))
    shown = {entry["local"] for entry in inside[0]["addr_info"] if entry["scope"] == "global"}
    assert shown == set(pod["addresses"])
    assert nodes["r1n1"]["blocks"][0]["used"] == 1


def test_the_picture_names_everything(lab, command):
    lab.add_pod("web", "r2n1")
    picture = command("status")
    for word in ("spine1", "tor2", "r1n2", "etcd3", "web", "AS 65001", "leader"):
        assert word in picture


def pinged(name):
    """What is said of a ping; its status tells whether all was answered."""
    return run_lab("ping", "a", "b", name=name).stdout


def test_pods_of_different_racks_reach_each_other_through_what_bird_learnt(lab):
    target = lab.add_pod("b", "r2n2")
    lab.add_pod("a", "r1n1")
    block = observe(lab)["nodes"][3]["blocks"][0]["networks"]
    tor = lab.files.host("tor1")

    def ways():
        show = ("route", "show")
        rows = [tor.ip(family, *show, net) for family, net in zip(("-4", "-6"), block, strict=True)]
        found = [row for family in rows for row in family]
        return [(row["protocol"], {hop["dev"] for hop in row.get("nexthops", ())}) for row in found]

    # A rack that was cut off by the test before announces its blocks when it has asked etcd.
    until(lambda: ways() == 2 * [("bird", {"spine1", "spine2"})], "both spines lead there")
    wanted = [f"{address}  5 of 5 answered" for address in target.addresses]
    until(lambda: all(words in pinged(lab.name) for words in wanted), "every ping is answered")


def test_a_trace_names_the_routers_on_the_way(lab):
    lab.add_pod("a", "r1n1")
    lab.add_pod("b", "r2n2")
    possible = [["r1n1", "tor1", spine, "tor2", "r2n2", "b"] for spine in ("spine1", "spine2")]

    def all_named():
        ways = run_lab("trace", "a", "b", name=lab.name).stdout.split("a -> b ")[1:]
        found = [[line.split()[1] for line in way.splitlines()[1:]] for way in ways]
        return len(found) == 2 and all(names in possible for names in found)

    until(all_named, "every hop of both families answers")


def test_pods_can_be_added_and_deleted_again_and_again(lab, command):
    first = command("pod", "add", "a", "--node", "r1n1")
    assert command("pod", "add", "a", "--node", "r1n1") == first
    assert "on node r1n1" in command("pod", "add", "a", "--node", "r1n2", status=1)
    assert "is gone" in command("pod", "delete", "a")
    assert command("pod", "delete", "a", "b") == "there is no pod a\nthere is no pod b\n"
    assert command("pod", "add", "a", "--node", "r1n2").split(":")[0] == "a on r1n2"
    assert [pod.node for pod in lab.pods.every()] == ["r1n2"]


def test_pods_that_are_added_at_once_get_an_address_each(lab):
    nodes = list(lab.plan.machines)
    wanted = [(f"p{n}", node) for node in nodes if node.startswith("r") for n in range(4)]
    wanted = [(f"{node}-{pod}", node) for pod, node in wanted]
    with ThreadPoolExecutor(8) as threads:
        pods = list(threads.map(lambda pair: lab.add_pod(*pair), wanted))
    assert len({address for pod in pods for address in pod.addresses}) == 2 * len(pods)


@pytest.mark.parametrize("pod", ["../lab", LONG, "a\0"])
def test_a_name_that_no_pod_can_have_is_one_of_no_pod(lab, pod):
    """../lab would be the record of the lab itself, seen from those of the pods."""
    lab.add_pod("a", "r1n1")
    assert not lab.delete_pod(pod)
    with pytest.raises(UnknownName, match="the lab has no pod"):
        lab.get_pod(pod)


def test_a_command_in_a_pod_says_how_it_ended(lab, command):
    lab.add_pod("a", "r1n1")
    command("pod", "exec", "a", "--", "sh", "-c", "exit 7", status=7)


@pytest.mark.parametrize("words", [["pod", "exec", "a"], ["shell", "a"], ["shell", "tor1"]])
def test_a_command_is_ended_by_a_pipe_that_nobody_reads(lab, words):
    """Else it complains: yes(1) of a broken pipe."""
    lab.add_pod("a", "r1n1")
    done = run_lab(*words, "--", "sh", "-c", "yes | head -1", name=lab.name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


def test_a_shell_speaks_to_the_programs_of_its_place(lab, command):
    lab.add_pod("a", "r1n1")
    assert "spine1_v4" in command("shell", "tor1", "--", "birdc", "show", "protocols")
    status = json.loads(command("shell", "r1n1", "--", "coilctl", "node", "status", "-o", "json"))
    assert (status["node"], status["attachments"]) == ("r1n1", 1)
    assert "etcd2" in command("shell", "etcd1", "--", "etcdctl", "member", "list")
    assert "eth0" in command("shell", "a", "--", "ip", "addr")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pod", "add", "a", "--node", "tor1"], "no node 'tor1'; it has r1n1, r1n2, r2n1, r2n2"),
        (["pod", "add", "r1n1", "--node", "r1n1"], "the name of a machine"),
        (["pod", "add", "a/b", "--node", "r1n1"], "pod name 'a/b' must be"),
        (["pod", "exec", "nobody", "--", "true"], "no pod 'nobody'"),
        (["ping", "nobody", "nobody"], "no pod 'nobody'"),
        (["web", "--port", "65536"], "65536 is not in the range"),
        (["ping", "nobody", "nobody", "--count", "0"], "0 is not in the range"),
        (["shell", "nowhere"], "the lab has no 'nowhere'; it has spine1"),
        (["shell", "../lab"], "the lab has no '../lab'; it has spine1"),
        (["pod", "exec", "../lab", "--", "true"], "no pod '../lab'"),
        (["pod", "exec", LONG, "--", "true"], f"no pod '{LONG}'"),
        (["ping", LONG, LONG], f"no pod '{LONG}'"),
    ],
)
def test_what_cannot_be_is_a_sentence(lab, command, words, sentence):
    lab.add_pod("there", "r1n1")
    assert sentence in command(*words, status=2)


@pytest.mark.parametrize("words", [["status"], ["ping", "a", "b"], ["pod", "delete", "a"]])
def test_a_lab_that_is_not_there_is_told(name, words):
    done = run_lab(*words, name=name)
    assert done.returncode == 2
    assert f"there is no lab '{name}'" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--name {} pod delete a", "pod --name {} delete a", "pod delete a --name {}",
        "--name other pod --name {} delete a", "--name other fail node r1n1 --name {}",
        "--name {} heal node r1n1", "--name {} status", "fail --name {} node r1n1",
        "heal --name other node --name {} r1n1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("environment", ["", "another"])
def test_the_lab_may_be_named_behind_any_word_and_the_last_name_counts(name, line, environment):
    words = line.format(name).split()
    done = CliRunner().invoke(main, words, env={"COIL_LAB": environment})
    assert done.exit_code == 2
    assert f"there is no lab '{name}'" in done.output


def test_the_lab_may_be_named_by_the_environment(name):
    done = CliRunner().invoke(main, ["status"], env={"COIL_LAB": name})
    assert f"there is no lab '{name}'" in done.output


def test_what_the_machine_lacks_is_told_before_anything_is_made(name, tmp_path):
    done = run_lab("up", name=name, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "bird, etcd, etcdctl not found in PATH" in done.stderr
    assert nothing_is_left(name)


def test_nobody_but_root_makes_a_lab(name, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(main, ["up", "--name", name])
    assert done.exit_code == 1
    assert done.output == "coil-lab: network namespaces are root's: run coil-lab as root\n"
    assert nothing_is_left(name)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--racks=0"], "--racks 0 must be 1 to 100"),
        (["--v6", "--dual"], "--v6 (IPv6 only) and --dual (IPv4 and IPv6) cannot both be; say one"),
        (["--dual", "--v6"], "--v6 (IPv6 only) and --dual (IPv4 and IPv6) cannot both be; say one"),
    ],
)
def test_an_impossible_topology_leaves_nothing(name, words, sentence):
    done = run_lab("up", *words, name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"coil-lab: {sentence}\n"
    assert nothing_is_left(name)


@pytest.mark.parametrize("size", ["16k", "100m"])
def test_a_disk_without_room_is_told_and_nothing_is_left(name, size):
    """In a mount namespace of its own, where the labs' folder is a small file system."""
    words = f"{COIL_LAB} up --name {name}; echo $?; ls {ROOT}; ls /run/netns | grep -F {name}"
    small = f"mkdir -p {ROOT} && mount -t tmpfs -o size={size} small {ROOT} && {words}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", small], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1\n"
    assert done.stderr.startswith("coil-lab: 3 members of etcd need 420 MB")
    assert done.stderr.count("\n") == 1


def test_a_disk_that_is_full_by_now_is_told(lab):
    """The lab's own folder is hidden by one that has no room, for the new pod's record."""
    folder = lab.files.directory
    small = (
        f"exec 3<{folder}/lab.json && mount -t tmpfs -o size=4k small {folder} && "
        f"cat <&3 >{folder}/lab.json; {COIL_LAB} pod add a --node r1n1 --name {lab.name}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", small], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "coil-lab: No space left on device: " in done.stderr


def test_up_twice_changes_nothing_and_other_numbers_are_refused(lab):
    before = processes(lab)
    lab.up(lab.plan.shape)
    assert processes(lab) == before
    done = run_lab("up", "--racks=3", name=lab.name)
    assert done.returncode == 1
    assert "other numbers (2 spines, 2 racks of 2 nodes" in done.stderr
    assert processes(lab) == before


def test_two_labs_beside_each_other_do_not_meet(lab, name):
    lab.add_pod("a", "r1n1")
    done = run_lab("up", "--spines=1", "--racks=2", "--nodes-per-rack=1", "--v6", name=name)
    assert done.returncode == 0, done.stderr
    other = Lab(name)
    target = other.add_pod("b", "r2n1")
    other.add_pod("a", "r1n1")
    assert [address.version for address in target.addresses] == [6]
    until(lambda: "5 of 5" in pinged(name), "the other lab's pods reach each other")
    assert [row["endpoint"] for row in observe(other)["etcd"]][0].startswith("[fd00:")
    assert run_lab("down", name=name).returncode == 0
    assert observe(lab)["failed"] == []
    assert [pod.name for pod in lab.pods.every()] == ["a"]


@pytest.mark.parametrize("number", ENDING)
def test_an_interrupted_up_leaves_nothing(name, number):
    with beginning(name) as process:
        process.send_signal(number)
        assert process.wait(60) == 130
    assert nothing_is_left(name)


def test_an_up_that_nohup_began_does_not_mind_a_closed_terminal(name):
    with beginning(name, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    assert observe(Lab(name))["failed"] == []


def test_an_up_whose_terminal_is_closed_leaves_nothing(name):
    with in_terminal(COIL_LAB, "up", *SMALL, "--name", name) as (process, close):
        until(lambda: len(Files(name).hosts()) > 1, "it has begun")
        close()
        process.wait(60)
    assert nothing_is_left(name)


def test_up_and_down_go_on_after_a_kill(name):
    with beginning(name) as process:
        process.kill()
        process.wait()
    assert not nothing_is_left(name)
    done = run_lab("up", *SMALL, name=name)
    assert done.returncode == 0, done.stderr
    assert observe(Lab(name))["failed"] == []
    for member in observe(Lab(name))["etcd"]:
        for program in programs_of([Files(name).host(member["name"])]).popitem()[1]:
            program.signal(signal.SIGKILL)
    assert run_lab("down", name=name).returncode == 0
    assert nothing_is_left(name)
    again = run_lab("down", name=name)
    assert (again.returncode, again.stdout) == (0, f"there is no lab {name}\n")


def test_the_pool_is_made_once_etcd_has_the_time(lab):
    """A commit to a slow disk may take longer than a call may."""
    members = lab.plan.of_kind(Kind.ETCD)

    def asking():
        return find_program(lab.files.host(members[0]), "coilctl")

    with ThreadPoolExecutor(1) as threads:
        for member in members:
            lab.faults.fail_etcd(member.name, How.SUSPEND)
        try:
            making = threads.submit(lab._make_pool, lab.machines)
            first = until(asking, "etcd is asked")
            until(lambda: asking() != first, "the first call is over")
        finally:
            for member in members:
                lab.faults.heal_etcd(member.name)
        making.result()


def test_down_goes_on_where_a_namespace_cannot_be_deleted_yet(name):
    """A child of an up that was killed is just making it; here a folder is in its place."""
    real, odd = Files(name).host("real"), Files(name).host("odd")
    run(["ip", "netns", "add", real.name])
    odd.path.mkdir()
    try:
        with subprocess.Popen([COIL_LAB, "down", "--name", name]) as down:
            until(lambda: not real.path.exists(), "the other one is deleted")
            odd.path.rmdir()
            assert down.wait(60) == 0
    finally:
        if odd.path.exists():
            odd.path.rmdir()
    assert nothing_is_left(name)


def plugins(lab, node):
    return [p for p in programs_of([lab.files.host(node)]).popitem()[1] if p.name == PLUGIN.name]


def used(lab, node):
    """How many addresses of a node pods have."""
    rows = lab.machines.node(lab.plan.machines[node]).ask("/addresses")
    return sum(row["state"] == "used" for row in rows)


def pod_add(lab, node):
    argv = [COIL_LAB, "pod", "add", "a", "--node", node, "--name", lab.name]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def adding(lab):
    """A coil-lab pod add of which the plugin waits for coild, which answers after this."""
    lab.faults.fail_coild("r1n1", How.SUSPEND)
    try:
        with pod_add(lab, "r1n1") as process:
            until(lambda: plugins(lab, "r1n1"), "the plugin runs")
            yield process
    finally:
        lab.faults.heal_coild("r1n1")


@pytest.mark.parametrize("number", ENDING)
def test_an_interrupted_pod_add_leaves_nothing(lab, number):
    with adding(lab) as process:
        process.send_signal(number)
        assert process.wait(60) == 130
        assert lab.files.pods() == []
        assert not lab.files.pod_host("a").path.exists()
    until(lambda: used(lab, "r1n1") == 0, "its address is given back")


@contextmanager
def two_adding(lab, node):
    """As ``adding``, and another of the same pod, on ``node``, that waits for the first."""

    def waits(pid):
        locks = Path("/proc/locks").read_text().splitlines()
        return any("->" in line.split() and str(pid) in line.split() for line in locks)

    with adding(lab) as first, pod_add(lab, node) as second:
        until(lambda: waits(second.pid), "the second waits")
        lab.faults.heal_coild("r1n1")
        yield first, second


def test_two_who_add_a_pod_at_once_get_the_same(lab):
    with two_adding(lab, "r1n1") as processes:
        outputs = {process.communicate(timeout=60)[0] for process in processes}
        assert {process.returncode for process in processes} == {0}
    (pod,) = lab.pods.every()
    assert outputs == {f"a on r1n1: {' '.join(map(str, pod.addresses))}\n"}
    assert used(lab, "r1n1") == 1
    assert pod.host.path.exists()
    assert lab.delete_pod("a")
    assert list((lab.files.directory / "pods").iterdir()) == []


def test_of_two_who_add_a_pod_on_two_nodes_at_once_the_first_gets_it(lab):
    with two_adding(lab, "r1n2") as (first, second):
        assert second.communicate(timeout=60)[1] == (
            "coil-lab: pod a is on node r1n1; delete it there first\n"
        )
        assert (first.wait(60), second.returncode) == (0, 1)
    assert [pod.node for pod in lab.pods.every()] == ["r1n1"]
    assert lab.files.pod_host("a").path.exists()
    assert (used(lab, "r1n1"), used(lab, "r1n2")) == (1, 0)


def test_a_node_loses_its_power_while_a_pod_is_added_there(lab):
    with adding(lab) as process:
        lab.faults.fail_node("r1n1")
        assert process.wait(60) == 1
        assert lab.files.pods() == []
        lab.faults.heal_node("r1n1")


@pytest.fixture
def half(lab):
    """Pod a on r1n1 was begun and is not made: who made it was killed."""
    with adding(lab) as process:
        process.kill()
        process.wait()
        until(lambda: not plugins(lab, "r1n1"), "the plugin has gone with it")
    assert lab.files.pod_host("a").path.exists()


def test_a_half_made_pod_is_none(lab, half, command):
    assert "no pod 'a'; it has none" in command("ping", "a", "a", status=2)
    assert observe(lab)["pods"] == []


@pytest.mark.parametrize("node", ["r1n1", "r1n2"])
def test_a_half_made_pod_can_be_added_wherever_it_was_begun(lab, half, node):
    made = lab.add_pod("a", node)
    assert (made.node, used(lab, node)) == (node, 1)
    assert used(lab, "r1n1") == (node == "r1n1")
    assert {row["local"] for row in made.host.ip("addr", "show", "eth0")[0]["addr_info"]} >= set(
        map(str, made.addresses)
    )


def test_a_half_made_pod_can_be_deleted(lab, half, command):
    assert command("pod", "delete", "a") == "pod a is gone\n"
    assert used(lab, "r1n1") == 0
    assert not lab.files.pod_host("a").path.exists()
    assert command("pod", "delete", "a") == "there is no pod a\n"


@pytest.mark.parametrize("machine", ["spine1", "tor1", "r1n1", "etcd2"])
def test_every_router_runs_what_coilctl_router_config_prints(lab, command, machine):
    router = lab.plan.router(lab.plan.machines[machine])
    words = [f"--role={router.role}", f"--name={router.name}", f"--asn={router.asn}"]
    words += [f"--loopback={address}" for address in router.loopbacks]
    words += [f"--neighbour={n.address},{n.asn},{n.name}" for n in router.neighbours]
    printed = command("shell", machine, "--", "coilctl", "router-config", "bird", *words)
    assert lab.files.of(machine).joinpath("bird.conf").read_text() == printed


def test_what_a_lab_was_made_of_may_be_lost_and_down_still_works(name):
    assert run_lab("up", *SMALL, name=name).returncode == 0
    record = Files(name).directory / "lab.json"
    for content in ("", "[]", '{"spines": 0}', '{"moons": 1}'):
        record.write_text(content)
        done = run_lab("status", name=name)
        assert done.returncode == 1
        assert done.stderr.startswith("coil-lab: ")
        assert "down" in done.stderr
    record.unlink()
    assert "there is no lab" in run_lab("status", name=name).stderr
    assert run_lab("down", name=name).returncode == 0
    assert nothing_is_left(name)
