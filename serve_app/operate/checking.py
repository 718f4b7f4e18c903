"""A whole config file, checked as far as it can be without deploying it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_app.config.cluster import ClusterConfig, with_live
from serve_app.config.errors import ConfigError, unknown
from serve_app.config.serve_file import (
    Application,
    ServeFile,
    parse_serve_config,
    parse_yaml,
    read_text,
)
from serve_app.operate.config_diff import literal_secrets, logged_secrets
from serve_app.operate.http_proxies import LOOPBACK_HOSTS
from serve_app.operate.reserved import deployed, local_stages
from serve_app.operate.yaml_lines import line_of, repeated_keys

READERS = ("Gateway", "Dispatcher", "SafetyClassifier")
READ_BY_BOTH = ("tiers", "temporary_limits")
"""By gateways and dispatchers."""
ELSEWHERE = "moderation"
"""What classifiers alone read, or dispatchers in whose children they are."""
_FIELD = re.compile(r"^(?:[\w-]+(?:\.[\w-]+)*: )*")


def check_file(path: str) -> tuple[dict[str, Any], ServeFile]:
    """The file as Serve takes it, and as we read it. Raises ConfigError with every problem, each
    `FILE:LINE: path.to.field: what is wrong`."""
    return check_text(read_text(Path(path)), path)


def check_text(text: str, path: str) -> tuple[dict[str, Any], ServeFile]:
    """As check_file, of what that file is to hold."""
    document = parse_yaml(text, Path(path))
    try:
        file = parse_serve_config(document, path)
    except ConfigError as error:
        problems = [problem.removeprefix(f"{path}: ") for problem in error.problems]
        raise _numbered(path, text, problems) from None
    if problems := [
        *_not_json(document),
        *repeated_keys(text),
        *_applications(file),
        *_of_ray(document),
    ]:
        raise _numbered(path, text, problems)
    return document, file


def advice(file: ServeFile) -> list[str]:
    """What is allowed and hardly meant, one line each."""
    said, loopback = [], file.http_options.host in LOOPBACK_HOSTS
    for number, application in enumerate(file.applications):
        if not application.has_gateway:
            continue
        gateway, path = application.args.gateway, f"applications.{number}.args.gateway"
        if application.args.webhooks.reaches_own_machine and not loopback:
            said.append(
                f"applications.{number}.args.webhooks.networks: names this machine's own addresses "
                "though the service listens on others: any key could reach what listens for this "
                "machine alone; leave 127.0.0.0/8 and ::1 out"
            )
        if gateway.public_url is not None and not gateway.trusted_proxies:
            said.append(
                f"{path}.trusted_proxies: is empty though public_url names a proxy: all of its "
                "clients without a valid key share one limit; name its addresses"
            )
        if gateway.hosts is None and loopback:
            said.append(
                f"{path}.hosts: is missing: a page whose name points at this machine could ask; "
                'write [localhost, 127.0.0.1, "[::1]"]'
            )
    document = file.model_dump()
    if not loopback:  # there, logs are as private as the file
        said += logged_secrets(document)
    return [*said, *literal_secrets(document, loopback=loopback)]


def _numbered(path: str, text: str, problems: list[str]) -> ConfigError:
    return ConfigError(*(f"{path}:{line_of(text, _field(one))}: {one}" for one in problems))


def _field(problem: str) -> str:
    """`a.b: c: wrong` is about a.b.c."""
    match = _FIELD.match(problem)
    return match[0].rstrip(": ").replace(": ", ".") if match else ""


def _applications(file: ServeFile) -> list[str]:
    found, reads = [], []
    for number, application in enumerate(file.applications):
        problems, read = _application(application)
        found += [f"applications.{number}.{problem}" for problem in problems]
        reads.append(read)
    return found or list(_apart_in_a_lane(file, reads))


Read = dict[str, ClusterConfig]
"""By deployment, the args with what is live there."""


def _application(application: Application) -> tuple[list[str], Read]:
    """What only shows when the args and the deployments are read together."""
    found, names, local = [], deployed(application), local_stages(application)
    read = {name: application.args for name in names if _kind(name) in READERS}
    for number, options in enumerate(application.deployments):
        path, live = f"deployments.{number}", options.user_config
        if options.name in local:
            where = local[options.name]
            found.append(
                f"{path}.name: {options.name} is no deployment with args.{where}.local: true; "
                "leave it out; its user_config goes to Dispatcher"
            )
        elif options.name not in names:
            found.append(f"{path}.name: {unknown(options.name, names, 'deployment')}")
        elif live is not None and options.name not in read:
            found.append(f"{path}.user_config: {options.name} reads none; {', '.join(READERS)} do")
        elif live is not None:
            try:
                read[options.name] = with_live(application.args, live.model_dump())
            except ConfigError as error:
                found.append(f"{path}.{error}")
    return found or [*_misread(application, read), *_apart(read)], read


def _misread(application: Application, read: Read) -> Iterator[str]:
    """Live policies that no classifier gets."""
    reader = "Dispatcher" if application.args.safety.local else "SafetyClassifier"
    said = [getattr(read[n], ELSEWHERE) for n in read if _kind(n) == reader]
    for number, options in enumerate(application.deployments):
        live = options.user_config and getattr(options.user_config, ELSEWHERE)
        if live and live not in said:
            yield (
                f"deployments.{number}.user_config.{ELSEWHERE}: {options.name} does not read it; "
                f"give it to {reader}"
            )


def _apart(read: Read) -> Iterator[str]:
    """Sections that are not the same where they must be."""
    for name, section in _differing(read.get("Gateway"), read):
        yield (
            f"deployments: Gateway and {name} have different {section}; give both the same "
            "user_config, best through a YAML anchor"
        )


def _apart_in_a_lane(file: ServeFile, reads: list[Read]) -> Iterator[str]:
    """The same between a gateway and models that are applications of their own."""
    for number, application in enumerate(file.applications):
        for other, read in zip(file.applications, reads, strict=True):
            if other is application or not other.has_gateway or not other.beside(application):
                continue
            for name, section in _differing(read["Gateway"], reads[number]):
                yield (
                    f"applications.{number}.deployments: {name} has other {section} than the "
                    f"Gateway of application {other.name!r}; give both the same user_config, best "
                    "through a YAML anchor"
                )


def _differing(gateway: ClusterConfig | None, read: Read) -> Iterator[tuple[str, str]]:
    """Dispatchers, and sections in which they differ from that gateway."""
    for name, dispatcher in read.items():
        if gateway is None or _kind(name) != "Dispatcher":
            continue
        for section in READ_BY_BOTH:
            if getattr(gateway, section) != getattr(dispatcher, section):
                yield name, section


def _kind(name: str) -> str:
    """Of a deployment, whichever model's it is."""
    return name.partition("-")[0]


def _not_json(document: dict[str, Any]) -> list[str]:
    """YAML can say more than can be sent to Serve: dates, .nan, an alias inside of its anchor."""
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        return [f"applications: cannot be sent as JSON: {error}"]
    return []


def _of_ray(document: dict[str, Any]) -> list[str]:
    from deployments.serve_schema import ray_problems  # Ray takes two seconds to import

    return [
        f"{path}: {what or unknown(path.rpartition('.')[2], known)}"
        for path, what, known in ray_problems(document)
    ]
