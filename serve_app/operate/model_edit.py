"""One more model in the text of a config file: an entry of its lane's `models`. A lane that had one
`model` gets the list, and its deployments the names that they have beside others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from serve_app.config.errors import ConfigError
from serve_app.operate import yaml_edit
from serve_app.operate.yaml_edit import NotThere, YamlPath

COPIED = ("Dispatcher", "PromptEncoder", "SafetyClassifier")
"""Deployments of a model whose options a new one takes over, as far as the file names them: where
they run, and limits that they must have in common with the Gateway."""
OF_A_MODEL = (*COPIED, "Decoder")


def with_model(text: str, number: int, model: Mapping[str, Any], source: str) -> str:
    """The text with the model behind the others of application `number`; it must be that of a file
    that was found right. ConfigError, naming `source`, where the file is laid out in a way that
    cannot be edited here."""
    here: YamlPath = ("applications", number)
    try:
        edited = _listed(text, here)
        edited = yaml_edit.append(edited, (*here, "args", "models"), yaml_edit.dumped(model))
        edited = _deployed(edited, here, str(model["name"]))
        if yaml.safe_load(edited) == _wanted(text, number, model):
            return edited
    except NotThere as error:
        raise ConfigError(f"{source}: {error}, to add a model") from None
    except yaml.YAMLError:
        pass  # as below
    where = f"{source}: {yaml_edit.dotted(here)}"
    raise ConfigError(f"{where}: is laid out in a way that is not edited; add the model by hand")


def _listed(text: str, here: YamlPath) -> str:
    """With `models` in place of `model`."""
    application = _application(text, here)
    if "models" in (args := application.get("args") or {}):
        return text
    if "name" not in (args.get("model") or {}):
        raise NotThere(f"{yaml_edit.dotted((*here, 'args', 'model', 'name'))}: must be written out")
    for place, kind in reversed(list(_of_a_model(application))):
        name = f"{kind}-{args['model']['name']}"
        text = yaml_edit.replace(text, (*here, "deployments", place, "name"), name)
    return yaml_edit.make_list(text, (*here, "args", "model"), "models")


def _deployed(text: str, here: YamlPath, name: str) -> str:
    """With the first model's deployment options for the new one, too, said once by anchors."""
    application = _application(text, here)
    for place, kind in _copied(application):
        lines = [f"name: {kind}-{name}"]
        for field in [f for f in application["deployments"][place] if f != "name"]:
            text, anchor = yaml_edit.anchored(text, (*here, "deployments", place, field))
            lines.append(f"{field}: *{anchor}")
        text = yaml_edit.append(text, (*here, "deployments"), lines)
    return text


def _application(text: str, here: YamlPath) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)[here[0]][here[1]]
    return found


def _of_a_model(application: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Place and name of each deployment that the only model of an application has."""
    for place, options in enumerate(application.get("deployments") or ()):
        if options["name"] in OF_A_MODEL:
            yield place, options["name"]


def _copied(application: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Place and kind of the deployments that a new model takes its options from."""
    first = application["args"]["models"][0]["name"]
    names = {f"{kind}-{first}": kind for kind in COPIED}
    options = enumerate(application.get("deployments") or ())
    return [(place, names[one["name"]]) for place, one in options if one["name"] in names]


def _wanted(text: str, number: int, model: Mapping[str, Any]) -> object:
    """What the edited text has to mean."""
    document = yaml.safe_load(text)
    application = copy.deepcopy(document["applications"][number])
    document["applications"][number] = application
    args = application["args"]
    if "models" not in args:
        for place, kind in _of_a_model(application):
            application["deployments"][place]["name"] = f"{kind}-{args['model']['name']}"
        args["models"] = [args.pop("model")]
    args["models"] = [*args["models"], dict(model)]
    for place, kind in _copied(application):
        options = application["deployments"][place]
        application["deployments"].append({**options, "name": f"{kind}-{model['name']}"})
    return document
