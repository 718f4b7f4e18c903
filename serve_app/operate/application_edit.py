"""One more application in the text of a config file: a model beside the gateway and the other
models of its lane, with the sections that they have in common said once, by anchors."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from serve_app.config.cluster import OWN_SECTIONS
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import MODEL, NOT_OF
from serve_app.operate import yaml_edit
from serve_app.operate.yaml_edit import NotThere, YamlPath

NOT_TAKEN = {"model", *NOT_OF[MODEL], *OWN_SECTIONS} - {"dispatcher"}
"""Of the args of another application: what is that model's own, or the gateway's."""
AROUND = ("runtime_env", "logging_config")
"""Of an application, beside its args."""
LIVE_OF_LANE = {
    "Dispatcher": ("tiers", "temporary_limits", "moderation"),
    "PromptEncoder": (),
    "SafetyClassifier": ("moderation",),
}
"""Of the user_config of such a deployment, what is not about one model."""


def with_application(text: str, number: int, model: Mapping[str, Any], source: str) -> str:
    """The text with an application for the model behind the others, like application `number` in
    all that is not of one model; the text must be that of a file that was found right. model: an
    entry as of `models`. ConfigError, naming `source`, where the file is laid out in a way that
    cannot be edited here."""
    try:
        edited = _appended(text, number, model)
        if yaml.safe_load(edited) == _wanted(text, number, model):
            return edited
    except NotThere as error:
        raise ConfigError(f"{source}: {error}, to add a model") from None
    except yaml.YAMLError:
        pass  # as below
    raise ConfigError(f"{source}: is laid out in a way that is not edited; add the model by hand")


def _appended(text: str, number: int, model: Mapping[str, Any]) -> str:
    here: YamlPath = ("applications", number)
    like = yaml.safe_load(text)["applications"][number]
    lines = [f"name: {model['name']}", "route_prefix: null", f"import_path: {MODEL}"]
    for field in [field for field in AROUND if field in like]:
        text, said = _shared(text, (*here, field), like[field])
        lines += said
    lines += ["args:", *_indented(yaml_edit.dumped(_args(model)))]
    for section in _taken(like):
        text, said = _shared(text, (*here, "args", section), like["args"][section])
        lines += _indented(said)
    if deployments := list(_deployments(like)):
        lines += yaml_edit.dumped({"deployments": deployments})
    return yaml_edit.append(text, ("applications",), lines)


def _shared(text: str, path: YamlPath, value: object) -> tuple[str, list[str]]:
    """The text with an anchor where one is worth it, and the lines that say that field again."""
    if not isinstance(value, dict | list) or not value:
        return text, yaml_edit.dumped({str(path[-1]): value})
    text, anchor = yaml_edit.anchored(text, path)
    return text, [f"{path[-1]}: *{anchor}"]


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _args(model: Mapping[str, Any]) -> dict[str, Any]:
    """What the new application has for itself."""
    said = {name: value for name, value in model.items() if name not in OWN_SECTIONS}
    return {"model": said} | {name: model[name] for name in OWN_SECTIONS if name in model}


def _taken(like: Mapping[str, Any]) -> list[str]:
    return [section for section in like.get("args") or {} if section not in NOT_TAKEN]


def _deployments(like: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Where the other one's deployments run, and what is live for the whole lane."""
    for options in like.get("deployments") or ():
        kind = "Dispatcher" if options["name"] == "Gateway" else options["name"]
        if kind not in LIVE_OF_LANE:
            continue
        told = options if kind == options["name"] else {}
        copied = {name: value for name, value in told.items() if name != "user_config"}
        live = options.get("user_config") or {}
        live = {section: live[section] for section in LIVE_OF_LANE[kind] if section in live}
        found = copied | {"name": kind} | ({"user_config": live} if live else {})
        if found != {"name": kind}:
            yield copy.deepcopy(found)


def _wanted(text: str, number: int, model: Mapping[str, Any]) -> object:
    """What the edited text has to mean."""
    document = yaml.safe_load(text)
    like = document["applications"][number]
    added = {"name": model["name"], "route_prefix": None, "import_path": MODEL}
    added |= {field: like[field] for field in AROUND if field in like}
    added["args"] = _args(model) | {name: like["args"][name] for name in _taken(like)}
    if deployments := list(_deployments(like)):
        added["deployments"] = deployments
    document["applications"] = [*document["applications"], added]
    return document
