"""Figures of traffic between two pods of a host: coil, ptp and bridge in turn."""

from __future__ import annotations

import json
import re
import statistics

from bench.rig import Rig, ratio

from coil.lab.host import end
from coil.lab.wait import until

_SECONDS = 1
_PINGS = 20_000
_ROUNDS = 15
"""At least: seconds of one kind differ by some hundredths."""
_CORES = ("-A", "0,1")
"""Of client and server: left to the scheduler, seconds of one kind differ by up to a half."""


def throughput(rig: Rig, rounds: int) -> None:
    """TCP by iperf3 and round trips by ping."""
    pods = rig.need_pods(2)
    found: dict[str, list[tuple[float, float]]] = {"coil": [], "ptp": [], "bridge": []}
    kinds = list(found)
    for number in range(max(rounds, _ROUNDS)):
        first = number % len(kinds)  # none always comes right after the same other
        for kind in kinds[first:] + kinds[:first]:
            plugin = rig.coil() if kind == "coil" else rig.peer(kind)
            rig.launch("seq", plugin, "ADD", pods, prefix="t")
            try:
                found[kind].append(_measure(rig, pods))
            finally:
                rig.launch("seq", plugin, "DEL", pods, prefix="t")
    speed, trip = ({kind: [s[of] for s in found[kind]] for kind in kinds} for of in (0, 1))
    rig.add("pod to pod", statistics.median(speed["coil"]), "Gbit/s")
    for peer in ("ptp", "bridge"):
        faster = ratio(list(zip(speed["coil"], speed[peer], strict=True)))
        longer = ratio(list(zip(trip["coil"], trip[peer], strict=True)))
        rig.add(f"throughput / {peer}", faster, "", 0.95, at_least=True)
        rig.add(f"round trip / {peer}", longer, "", 1.05)


def _measure(rig: Rig, pods) -> tuple[float, float]:
    """(Gbit/s, round trip in us) from the second pod to the first."""
    client, server = pods[1], pods[0]
    info = server.ip("-4", "addr", "show", "eth0")[0]["addr_info"]
    target = info[0]["local"]
    with open(rig.directory / "iperf.log", "wb") as log:
        process = server.start("iperf3", "-s", "-1", "-B", target, log=log)
        try:
            until(lambda: target in server.run("ss", "-ltn").stdout, "iperf3 listens")
            shown = client.run("iperf3", "-J", *_CORES, "-t", _SECONDS, "-c", target).stdout
        finally:
            end(process)
    bits = json.loads(shown)["end"]["sum_received"]["bits_per_second"]
    # One after another, and their time together: ping itself tells no less than a microsecond.
    told = client.run("ping", "-q", "-f", "-c", str(_PINGS), target).stdout
    lost, together = re.search(r"(\d+)% packet loss, time (\d+)ms", told).groups()
    assert lost == "0", told
    return bits / 1e9, int(together) * 1000 / _PINGS
