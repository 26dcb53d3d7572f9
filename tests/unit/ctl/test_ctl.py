"""coilctl without a daemon: options, exit statuses, output, completion."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from coil.ctl.address import readable
from coil.ctl.main import main


@pytest.fixture
def run(tmp_path):
    def call(*words, **options):
        environment = {"COIL_STORE": f"sqlite://{tmp_path}/store.db", "COIL_SOCKET": "/nowhere/s"}
        return CliRunner().invoke(main, list(words), env=environment, **options)

    return call


def test_a_pool_lives_from_creation_to_deletion(run):
    assert run("pool", "create", "default", "10.0.0.0/24,fd00::/120").exit_code == 0
    assert "8 blocks" in run("pool", "create", "b", "10.1.0.0/24", "--cool-down", "2m").output
    assert run("pool", "add-subnet", "b", "10.2.0.0/24").output == "pool b has 16 blocks now\n"
    pools = json.loads(run("pool", "list", "-o", "json").output)
    assert [(p["name"], p["blocks"], p["cool_down"]) for p in pools] == [
        ("b", 16, 120),
        ("default", 8, 130),
    ]
    assert run("pool", "cordon", "b").exit_code == 0
    assert "cordoned: true" in run("pool", "show", "b", "--output", "yaml").output
    assert run("pool", "uncordon", "b").exit_code == 0
    assert run("pool", "delete", "b").exit_code == 0
    assert "........" in run("pool", "show", "default").output


def test_options_stand_before_or_after_the_verb(run, tmp_path):
    run("pool", "create", "default", "10.0.0.0/24")
    before = run("--output", "json", "pool", "list").output
    assert run("pool", "list", "--output", "json").output == before
    assert run("pool", "--output", "json", "list").output == before
    other = f"sqlite://{tmp_path}/other.db"
    run("pool", "create", "b", "10.1.0.0/24", "--store", other)
    run("pool", "delete", "b", "--store", other)
    assert json.loads(run("pool", "list", "--store", other, "-o", "json").output) == []
    for words in (("--store", other, "pool", "list"), ("pool", "--store", other, "list")):
        assert json.loads(run(*words, "-o", "json").output) == []


def test_verbs_that_change_a_pool_tell_programs_what_it_is_now(run):
    row = {
        "name": "a", "subnets": ["10.0.0.0/24"], "block_size": 32, "blocks": 8, "owned": 0,
        "cool_down": 130, "cordoned": False,
    }  # fmt: skip
    more = {**row, "subnets": ["10.0.0.0/24", "10.1.0.0/24"], "blocks": 16}
    for words, expected in (
        (("create", "a", "10.0.0.0/24"), row),
        (("add-subnet", "a", "10.1.0.0/24"), more),
        (("cordon", "a"), {**more, "cordoned": True}),
        (("uncordon", "a"), more),
        (("delete", "a"), {"name": "a", "deleted": True}),
    ):
        assert json.loads(run("pool", *words, "-o", "json").stdout) == expected
    assert yaml.safe_load(run("pool", "create", "a", "10.0.0.0/24", "-o", "yaml").stdout) == row


def test_of_an_option_given_twice_the_one_nearer_to_the_verb_wins(run):
    assert run("-o", "yaml", "pool", "-o", "json", "create", "a", "10.0.0.0/24").exit_code == 0
    for words in (
        ("-o", "yaml", "pool", "-o", "json", "list"),
        ("-o", "yaml", "pool", "list", "-o", "json"),
        ("pool", "-o", "yaml", "list", "-o", "json"),
    ):
        assert json.loads(run(*words).output)[0]["name"] == "a"


@pytest.mark.parametrize("noun", ["pool", "block", "address", "node", "rack"])
def test_every_noun_takes_the_options_that_all_share(run, noun):
    words = ("--store", "sqlite:///s", "--socket", "/s", "--output", "json")
    assert run(noun, *words, "list", "--help").exit_code == 0
    assert "--output" in run(noun, "--help").output
    assert run(*words, "completion", "bash", *words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pool", "create", "default", "10.0.0.1/24"), "10.0.0.0/24"),
        (("pool", "create", "default", "10.0.0.0/33"), "not a subnet"),
        (("pool", "create", "default", "10.0.0.0/24,fd00::/64"), "/120"),
        (("pool", "create", "default", "10.0.0.0/30"), "block bits"),
        (("pool", "create", "De fault", "10.0.0.0/24"), "pool name"),
        (("pool", "create", "x", "10.0.0.0/24", "10.0.0.128/25"), "overlap"),
        (("pool", "create", "x", "127.0.0.0/8"), "loopback"),
        (("pool", "create", "x", "10.0.0.0/24", "--cool-down", "soon"), "130s"),
        (("pool", "create", "x", "10.0.0.0/24", "--block-bits", "99"), "block-bits"),
        (("pool", "list", "--store", "redis://x"), "sqlite:///"),
        (("pool", "list", "--store", "sqlite://relative"), "sqlite:///"),
        (("pool", "list", "--store", "etcd://h:port/p"), "port"),
        (("pool", "list", "--store", "etcd://h/p?ca=/nowhere.pem"), "/nowhere.pem"),
        (("pool", "list", "--store", "store.db"), "not a URL of a store"),
        (("conflist", "--name", "a b"), "name"),
        (("conflist", "--pool", "A"), "pool name"),
        (("conflist", "--mtu", "5"), "mtu"),
        (("conflist", "--socket", "coild.sock"), "--socket 'coild.sock' must be an absolute path"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(run, words, says):
    done = run(*words)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
    assert "there is no store" in run("pool", "list").output


@pytest.mark.parametrize(
    "words",
    [
        ("pool", "list"),
        ("pool", "show", "x"),
        ("pool", "add-subnet", "x", "10.0.0.0/24"),
        ("pool", "cordon", "x"),
        ("pool", "delete", "x"),
        ("block", "list"),
        ("node", "list"),
        ("node", "release", "x", "--yes"),
        ("rack", "list"),
        ("audit",),
        ("doctor",),
    ],
)
def test_nothing_but_the_first_pool_makes_a_store(run, tmp_path, words):
    done = run(*words)
    assert done.exit_code == 1
    # A table breaks lines.
    assert f"there is no store {tmp_path}/store.db" in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("pool", "show", "x"), ("pool", "delete", "x")])
def test_what_is_not_there_fails_with_status_1(run, words):
    run("pool", "create", "other", "10.0.0.0/24")
    done = run(*words)
    assert done.exit_code == 1
    assert "pool x" in done.output


@pytest.mark.parametrize(
    "words",
    [
        ("node", "status"),
        ("address", "list"),
        ("explain", "10.0.0.1"),
        ("address", "info", "1.1.1.1"),
    ],
)
def test_without_a_daemon_it_says_where_it_looked(run, words):
    done = run(*words)
    assert done.exit_code == 1
    assert "/nowhere/s" in done.output
    assert "--socket" in done.output


def test_completion_is_printed_for_each_shell(run):
    for shell in ("bash", "zsh", "fish"):
        assert "coilctl" in run("completion", shell).output


def test_a_conflist_is_made_for_what_is_asked(run):
    done = run("conflist", "--cni-version", "1.1.0", "--pool", "p", "--mtu", "1400", "--no-chain")
    assert json.loads(done.output) == {
        "cniVersion": "1.1.0",
        "name": "coil",
        "plugins": [{"type": "coil", "socket": "/nowhere/s", "pool": "p", "mtu": 1400}],
    }


def test_a_pod_without_a_namespace_is_called_by_its_name():
    assert readable({"namespace": "", "pod": "web"}) == {"pod": "web"}
    assert readable({"namespace": "prod", "pod": "web"}) == {"pod": "prod/web"}
