"""The software bill of materials of an image: its Debian and Python packages, as CycloneDX 1.6."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from scripts.image.container import CONFINED, podman

DPKG = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n'"


def sbom(image: str, now: datetime) -> str:
    """The document's text. Raises ValueError where it would not be valid CycloneDX."""
    subject = Component(type=ComponentType.CONTAINER, name=image)
    packages = [*_debian(image), *_python(image)]
    bom = Bom(components=packages, metadata=BomMetaData(component=subject, timestamp=now))
    bom.register_dependency(subject, packages)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the SBOM is not valid: {error}")
    return text


def _debian(image: str) -> Iterator[Component]:
    for line in _in(image, DPKG).splitlines():
        name, version, architecture = line.split("\t")
        where = PackageURL("deb", "debian", name, version, {"arch": architecture})
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=where)


def _python(image: str) -> Iterator[Component]:
    for package in json.loads(_in(image, "pip list --format json")):
        name, version = package["name"], package["version"]
        where = PackageURL("pypi", None, name, version)
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=where)


def _in(image: str, shell: str) -> str:
    return podman("run", "--rm", *CONFINED, image, "bash", "-c", shell)
