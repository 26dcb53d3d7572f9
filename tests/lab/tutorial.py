"""Reads a tutorial: its commands, and what it shows of their output, held against the real one.

A block of the language ``console`` is a terminal: lines that begin with ``$ `` are commands, what
follows is shown of their output. In it

- ``...`` stands for anything in a line, and as a line for any lines;
- spaces, empty lines and the lengths of ruled lines are of no account;
- times are any times;
- addresses of the pool, container ids, names of host links and block numbers (1000 to 1999, unless
  they are a route's metric) are the reader's own: each that is shown stands for one, always the
  same, that nothing else stands for. In a command they are replaced by the reader's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OWN = (
    r"10\.64\.\d+\.\d+(?![\d.]|/16)(?:/\d+)?",
    r"fd00:64::[0-9a-f]*(?![0-9a-f:]|/112)(?:/\d+)?",
    r"\b(?:coil)?[0-9a-f]{11,}\b",
    r"(?<![\w.:])(?<!metric )1\d{3}(?![\w.:])",
)
_ANY = (
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z",
    r"\d\d:\d\d:\d\d(?:\.\d+)?",
    r"\d+\.\d+ ms",
    r"\d+ (?:s|min)\b",
)
_OWN_IN_REALITY = (r"10\.64\.\d+\.\d+", r"fd00:64::[0-9a-f]*", r"(?:coil)?[0-9a-f]{11,}", r"\d+")
_PART = re.compile("|".join(f"({kind})" for kind in (*_OWN, *_ANY, r"\.\.\.")))


@dataclass(frozen=True)
class Step:
    """A command, and the lines that are shown below it."""

    line: int
    command: str
    shown: list[str] = field(default_factory=list)


def steps(text):
    """Every command of the document, in order."""
    found = []
    for fence in FENCE.finditer(text):
        number = text.count("\n", 0, fence.start()) + 1
        for offset, line in enumerate(fence[2].splitlines(), start=1):
            if line.startswith("$ "):
                found.append(Step(number + offset, line.removeprefix("$ ")))
            else:
                found[-1].shown.append(line)
    return found


class Reader:
    """Somebody who compares; knows what is theirs for what is shown."""

    def __init__(self):
        self._own = {}

    def command(self, step):
        """The command as this reader has to type it."""
        return _PART.sub(lambda part: self._own.get(part[0], part[0]), step.command)

    def find_difference(self, shown, output):
        """None if the output is as shown; else the first line that is not. Learns only if it is."""
        own = dict(self._own)
        lines = list(_lines(output))
        anything = False
        for wanted in _lines("\n".join(shown)):
            if wanted == "...":
                anything = True
                continue
            while lines and not _match(wanted, lines[0], own) and anything:
                lines.pop(0)
            if not lines or not _match(wanted, lines.pop(0), own):
                return wanted
            anything = False
        if lines and not anything:
            return f"(nothing more), but there is: {lines[0]}"
        self._own = own
        return None


def _lines(text):
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    for line in re.split(r"[\r\n]+", plain):
        if short := re.sub(r"\s+", " ", re.sub("[─━]+", "─", line)).strip():
            yield short


def _match(wanted, line, own):
    """Whether a line is as wanted; then ``own`` has what was new in it."""
    pattern, new, end = "", [], 0
    for part in _PART.finditer(wanted):
        pattern += re.escape(wanted[end : part.start()])
        end = part.end()
        kind = part.lastindex - 1
        if part[0] in own:
            pattern += re.escape(own[part[0]])
        elif part[0] in new:
            pattern += f"(?P=own{new.index(part[0])})"
        elif kind < len(_OWN):
            length = re.escape(part[0][part[0].find("/") :]) if "/" in part[0] else ""
            pattern += f"(?P<own{len(new)}>{_OWN_IN_REALITY[kind]}{length})"
            new.append(part[0])
        else:
            pattern += ".*" if part[0] == "..." else _ANY[kind - len(_OWN)]
    found = re.fullmatch(pattern + re.escape(wanted[end:]), line)
    if found is None:
        return False
    learnt = {shown: found[f"own{number}"] for number, shown in enumerate(new)}
    everything = {**own, **learnt}
    if len(set(everything.values())) < len(everything):
        return False  # one thing of the reader's for two that are told apart
    own.update(learnt)
    return True
