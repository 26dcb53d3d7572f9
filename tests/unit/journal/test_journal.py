"""The journal keeps what it was told, knows a reboot, and is kept aside when it cannot be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from ipaddress import ip_address

import pytest

from coil.domain.attachment import Attachment, AttachmentKey, Netns, Pod
from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import ConfigError
from coil.domain.pool import Pool, parse_subnet
from coil.journal.errors import JournalError, JournalLocked
from coil.journal.journal import FILE_NAME, Journal, Moment

BLOCK = BlockId("default", 3)
CLAIM = BlockClaim(BLOCK, "node1", 7)
POOL = Pool("default", (parse_subnet("10.0.0.0/24,fd00::/120"),), cool_down=9)


def attachment(container="c1", offset=5, ifname="eth0"):
    return Attachment(
        key=AttachmentKey(container, ifname),
        block=BLOCK,
        offset=offset,
        addresses=(ip_address("10.0.0.101"), ip_address("fd00::65")),
        netns=Netns("/run/netns/x", 42),
        host_ifname="coilabc",
        mac="02:00:00:00:00:01",
        mtu=1500,
        created_at=1_700_000_000,
        network="net",
        pod=Pod("ns", "pod", "uid"),
    )


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(boot_id="boot-1"):
        made.append(Journal.open(tmp_path / "state", boot_id=boot_id))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


def test_what_was_written_is_read_after_a_restart(opened):
    journal = opened()
    journal.put_pools([POOL])
    journal.put_block(CLAIM, {1: 10.5})
    journal.put_attachment(attachment())
    journal.set_store_identity("store-1")
    journal.close()
    again = opened()
    state = again.load()
    assert state.pools == [POOL]
    assert [(b.claim, b.releasing) for b in state.blocks] == [(CLAIM, False)]
    assert state.attachments == [attachment()]
    assert state.freed == {BLOCK: {1: 10.5}}
    assert again.store_identity() == "store-1"
    assert not again.rebooted
    assert again.kept_aside is None


def test_removal_and_the_time_of_it_are_one_step(opened):
    journal = opened()
    journal.put_attachment(attachment())
    journal.remove_attachments([attachment()], freed_at=3.0)
    assert journal.load().attachments == []
    assert journal.load().freed == {BLOCK: {5: 3.0}}
    journal.put_attachment(attachment("c2"))
    assert journal.load().freed == {}
    journal.remove_attachments([attachment("c2")], freed_at=None)
    assert journal.load().freed == {}
    journal.remove_attachments([attachment("c2")], freed_at=None)  # unknown: passed over


def test_one_address_cannot_have_two_holders(opened):
    journal = opened()
    journal.put_attachment(attachment("c1"))
    with pytest.raises(JournalError):
        journal.put_attachment(attachment("c2"))
    assert [a.key.container_id for a in journal.load().attachments] == ["c1"]


def test_a_release_in_progress_is_remembered(opened):
    journal = opened()
    journal.put_pools([POOL])
    journal.put_block(CLAIM, {1: 1.0})
    journal.mark_releasing([BLOCK])
    assert journal.load().blocks[0].releasing
    journal.remove_block(BLOCK)
    state = journal.load()
    assert (state.blocks, state.freed) == ([], {})


def test_after_a_reboot_times_of_the_old_boot_count_from_the_new_one(opened):
    journal = opened()
    journal.put_pools([POOL])
    journal.put_block(CLAIM, {1: 5000.0})
    journal.put_attachment(attachment())
    journal.close()
    again = opened("boot-2")
    assert again.rebooted
    assert again.load().freed == {BLOCK: {1: 0.0}}
    again.close()
    assert not opened("boot-2").rebooted


def test_only_one_process_has_it(opened, tmp_path):
    opened()
    with pytest.raises(JournalLocked):
        Journal.open(tmp_path / "state", boot_id="boot-1")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"garbage" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:3000]),
        lambda path: edit(path, "UPDATE attachments SET addresses = 'x'"),
        lambda path: edit(path, "UPDATE attachments SET container_id = '../x'"),
        lambda path: edit(path, "UPDATE attachments SET host_ifname = 'a/b'"),
        lambda path: edit(path, "UPDATE attachments SET mac = 'x'"),
        lambda path: edit(path, "UPDATE attachments SET offset = 32"),
        lambda path: edit(path, "UPDATE freed SET offset = -1"),
        lambda path: edit(path, "UPDATE freed SET freed_at = 'x'"),
        lambda path: edit(path, "UPDATE blocks SET idx = 8"),
        lambda path: edit(path, "UPDATE meta SET value = 'x' WHERE key = 'alive'"),
        lambda path: edit(path, "DELETE FROM pools"),
        lambda path: edit(path, "PRAGMA application_id = 7"),
        lambda path: edit(path, "UPDATE pools SET spec = '{}'"),
        lambda path: edit(path, "DROP TABLE blocks"),
    ],
)
def test_one_that_cannot_be_read_is_kept_aside(opened, tmp_path, damage):
    journal = opened()
    journal.put_pools([POOL])
    journal.put_block(CLAIM, {1: 10.5})
    journal.put_attachment(attachment())
    journal.put_moment(Moment.ALIVE, 1.0)
    journal.close()
    damage(tmp_path / "state" / FILE_NAME)
    again = opened()
    assert again.kept_aside is not None
    assert again.kept_aside.exists()
    assert again.load().attachments == []
    assert again.store_identity() == ""
    again.put_attachment(attachment())


def test_one_of_a_newer_coil_is_not_touched(opened, tmp_path):
    opened().close()
    path = tmp_path / "state" / FILE_NAME
    edit(path, "PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer"):
        opened()
    assert list(path.parent.glob("*corrupt*")) == []


def test_a_full_disk_is_no_reason_to_give_a_journal_up(opened, tmp_path):
    journal = opened()
    journal.put_attachment(attachment())
    journal.close()
    # A limit on the size of files acts as a full disk does.
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from coil.journal.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n    Journal.open(Path(sys.argv[1]), boot_id='another')\n"
        "except Exception as exc:\n    sys.exit(type(exc).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "state"], capture_output=True, text=True
    )
    assert done.stderr.strip() == "JournalError"
    assert list((tmp_path / "state").glob("*corrupt*")) == []
    assert opened().load().attachments == [attachment()]


def test_nobody_else_may_read_it_nor_its_log(opened, tmp_path):
    def modes(directory):
        return {file.name: oct(file.stat().st_mode & 0o777) for file in directory.iterdir()}

    private = {FILE_NAME: "0o600", FILE_NAME + "-wal": "0o600"}
    state, killed = tmp_path / "state", tmp_path / "killed"
    opened().put_attachment(attachment())
    assert modes(state) == private
    shutil.copytree(state, killed)  # as a kill leaves them
    for file in killed.iterdir():
        file.chmod(0o644)
    with contextlib.closing(Journal.open(killed, boot_id="boot-1")) as journal:
        assert journal.load().attachments == [attachment()]
        assert modes(killed) == private


def test_a_directory_that_cannot_be_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        Journal.open(tmp_path / "file" / "state", boot_id="b")


def test_what_a_killed_process_wrote_is_there(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from unit.journal.test_journal import *\n"
        "j = Journal.open(Path(sys.argv[1]), boot_id='b')\n"
        "for n in range(10**6):\n"
        "    j.put_attachment(attachment(f'c{n}', n, f'e{n % 9}'))\n"
        "    print(n, flush=True)\n"
    )
    tests = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), tests], stdout=subprocess.PIPE
    )
    for _line in range(50):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.wait(10)
    last = max([last, *map(int, writer.stdout.read().split())])
    writer.stdout.close()
    journal = Journal.open(tmp_path, boot_id="b")
    try:
        assert journal.kept_aside is None
        assert {a.offset for a in journal.load().attachments} >= set(range(last + 1))
    finally:
        journal.close()


def test_moments_are_remembered_until_a_reboot(tmp_path):
    journal = Journal.open(tmp_path, boot_id="b")
    assert journal.find_moment(Moment.ALIVE) is None
    journal.put_moment(Moment.ALIVE, 12.5)
    journal.put_moment(Moment.CUT_OFF, 3.0)
    journal.remove_moment(Moment.CUT_OFF)
    journal.close()
    journal = Journal.open(tmp_path, boot_id="b")
    assert journal.find_moment(Moment.ALIVE) == 12.5
    assert journal.find_moment(Moment.CUT_OFF) is None
    journal.close()
    journal = Journal.open(tmp_path, boot_id="c")
    assert journal.find_moment(Moment.ALIVE) is None
    journal.close()


def edit(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
