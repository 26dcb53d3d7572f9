"""A CNI request, checked whole before anything is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from coil.cni import versions
from coil.cni.errors import BadEnvironment, BadNetconf, IncompatibleVersion
from coil.cni.netconf import Netconf, check_supported, decode, parse_netconf, version_of
from coil.domain.attachment import AttachmentKey, Pod
from coil.domain.errors import InvalidName
from coil.domain.names import parse_container_id, parse_ifname

T = TypeVar("T")

_MAX_POD_NAME = 253
"""Characters: a DNS name, as Kubernetes calls pods."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_NETNS = 4096
"""Bytes: PATH_MAX (linux/limits.h)."""


class Command(Enum):
    """CNI verbs."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_KEYED = (Command.ADD, Command.DEL, Command.CHECK)
_IN_NETNS = (Command.ADD, Command.CHECK)
_GIVING = (Command.ADD, Command.STATUS)
_COMPARING = (Command.ADD, Command.CHECK)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``key`` is set for ADD, DEL and CHECK; ``netns`` for ADD and CHECK."""

    command: Command
    netconf: Netconf
    key: AttachmentKey | None = None
    netns: str = ""
    pod: Pod = field(default_factory=Pod)


def parse_command(variables: Mapping[str, str]) -> Command:
    """CNI_COMMAND. Raises BadEnvironment."""
    text = variables.get("CNI_COMMAND", "")
    try:
        return Command(text)
    except ValueError as exc:
        known = ", ".join(command.value for command in Command)
        problem = f"{text[:40]!r} is not a command" if text else "is missing"
        raise BadEnvironment(f"CNI_COMMAND {problem}; it must be one of {known}") from exc


def parse_request(variables: Mapping[str, str], body: bytes) -> Request:
    """Check variables and netconf. Raises a CniError that says what is wrong with which."""
    command = parse_command(variables)
    found = decode(body) if body.strip() or command is not Command.VERSION else {}
    if command is Command.VERSION:
        return Request(command, Netconf(_asked_version(found), ""))
    version = version_of(found)
    if not versions.has_verb(version, command.value):
        raise IncompatibleVersion(f"cniVersion {version} has no {command.value}")
    key = _key(variables) if command in _KEYED else None
    netns = _netns(variables) if command in _IN_NETNS else ""
    arguments = parse_arguments(variables.get("CNI_ARGS", "")) if command is Command.ADD else {}
    netconf = parse_netconf(found, gives=command in _GIVING, compares=command in _COMPARING)
    if command is Command.ADD:
        check_supported(found, arguments)
    if command is Command.CHECK and netconf.prev_result is None:
        raise BadNetconf("prevResult is required for CHECK")
    return Request(command, netconf, key, netns, pod_of(arguments))


def _asked_version(found: Mapping[str, object]) -> str:
    """The version a VERSION request wants its answer in; the newest when it asks for none we know.

    VERSION is how runtimes find out, so it never fails for a version.
    """
    asked = found.get("cniVersion")
    return asked if isinstance(asked, str) and asked in versions.SUPPORTED else versions.NEWEST


def _key(variables: Mapping[str, str]) -> AttachmentKey:
    return AttachmentKey(
        _checked("CNI_CONTAINERID", variables, parse_container_id),
        _checked("CNI_IFNAME", variables, parse_ifname),
    )


def _checked(variable: str, variables: Mapping[str, str], parse: Callable[[str], T]) -> T:
    text = variables.get(variable, "")
    if not text:
        raise BadEnvironment(f"{variable} is missing")
    try:
        return parse(text)
    except InvalidName as exc:
        raise BadEnvironment(f"{variable}: {exc.message}") from exc


def _netns(variables: Mapping[str, str]) -> str:
    path = variables.get("CNI_NETNS", "")
    if not path:
        raise BadEnvironment("CNI_NETNS is missing")
    if not path.startswith("/") or "\0" in path or len(path.encode(errors="replace")) > _MAX_NETNS:
        raise BadEnvironment(f"CNI_NETNS {path[:80]!r} must be an absolute path")
    if _SURROGATE.search(path):
        raise BadEnvironment(f"CNI_NETNS {path[:80]!r} is not UTF-8, as the JSON answer must be")
    return path


def parse_arguments(cni_args: str) -> dict[str, str]:
    """CNI_ARGS (``KEY=VALUE;KEY=VALUE``). Raises BadEnvironment.

    Keys that are not known are not ours to judge, whether IgnoreUnknown is there or not.
    """
    found: dict[str, str] = {}
    for pair in filter(None, cni_args.split(";")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadEnvironment(f"CNI_ARGS must be KEY=VALUE pairs, not {pair[:80]!r}")
        found[key] = printable(value)[:_MAX_POD_NAME]
    return found


def pod_of(arguments: Mapping[str, str]) -> Pod:
    """The pod that the arguments name."""
    return Pod(
        arguments.get("K8S_POD_NAMESPACE", ""),
        arguments.get("K8S_POD_NAME", ""),
        arguments.get("K8S_POD_UID", ""),
    )


def printable(text: str) -> str:
    """Foreign text as it may stand in logs, in a link's alias and in the journal."""
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in text)
