from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from coil.aggregates.main import main

GOOD = ["--rack=r1", "--store=etcd://u:secret@127.0.0.1:2379/t"]


def test_settings_are_shown_without_passwords():
    shown = json.loads(CliRunner().invoke(main, [*GOOD, "--print-config"]).stdout)
    assert shown["rack"] == "r1"
    assert shown["file"] == "/run/coil/aggregates.conf"
    assert "secret" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 2, "--rack"),
        (["--rack=r1"], 78, "--store"),
        ([*GOOD, "--rack=a b"], 78, "rack name"),
        (["--rack=r1", "--store=redis://x"], 78, "etcd://"),
        ([*GOOD, "--file=x.conf"], 78, "absolute path"),
        ([*GOOD, "--file=/proc/none/x.conf"], 78, "cannot write"),
        ([*GOOD, "--period=0"], 78, "period"),
        ([*GOOD, "--settle=-1"], 78, "negative"),
        ([*GOOD, "--settle=nan"], 78, "settle must be a number, not nan"),
        ([*GOOD, "--period=inf"], 78, "period must be a number, not inf"),
    ],
)
def test_what_cannot_be_gets_a_sentence_and_the_right_status(words, status, says):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == status
    assert says in done.output
