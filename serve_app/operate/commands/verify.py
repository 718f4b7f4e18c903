"""`meltproof verify`: where a picture says it is from, without a running service."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dispatch.identity import IdentityUnusable, known_identity
from engine.intake import Refused
from engine.provenance.checks import Checked, Checks
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import speaker

EPILOG = """\
Reads the keys and anchors of a config file, and a picture in a process that can do nothing else. A
picture without either layer may still be from here: both can be removed on purpose.

exit codes: 0 a mark or a manifest that holds; 1 neither; 2 wrong arguments or config, no picture"""

SAID = {
    "trusted": "signed, by a certificate that is trusted here",
    "valid": "signed, by a certificate that is not trusted here",
    "invalid": "broken: the file is not as it was signed",
    "not_present": "none",
}


def main(arguments: Sequence[str]) -> int:
    """Check one file; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        checked = _check(options.file, options.config)
    except Refused as refused:
        speaker(stderr=True).print(f"{options.file}: {refused}")
        return 2
    except OSError as error:
        speaker(stderr=True).print(f"{error.filename or options.file}: {error.strerror}")
        return 2
    except ConfigError as error:
        speaker(stderr=True).print(str(error))
        return 2
    except IdentityUnusable as error:
        speaker(stderr=True).print(f"provenance.{error}")
        return 2
    for line in report(checked):
        speaker().print(line)
    holds = checked.manifest.state in ("trusted", "valid")
    return 0 if holds or checked.mark is not None else 1


def report(checked: Checked) -> list[str]:
    """Both layers, a line each, and what the manifest says."""
    manifest, mark = checked.manifest, checked.mark
    said = {
        "signed by": manifest.issuer,
        "made by": manifest.model,
        "made at": manifest.generated_at,
        "kind": manifest.source_type,
        "parents": str(manifest.ancestors) if manifest.ancestors else None,
        "problems": ", ".join(manifest.problems) or None,
    }
    found = "none"
    if mark is not None:
        found = f"key {mark.key_id} (score {mark.score:.1f}, at {mark.scale:.0%} of its size)"
    lines = [f"  {name}: {value}" for name, value in said.items() if value is not None]
    return [f"manifest: {SAID[manifest.state]}", *lines, f"watermark: {found}"]


def _check(file: Path, config: str) -> Checked:
    data = file.read_bytes()
    application = parse_serve_config(load_serve_config(config), config).applications[0]
    identity = known_identity(application.args.identity_files())
    checks = Checks()
    try:
        return checks.check(data, identity.keys, identity.anchors)
    finally:
        checks.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof verify",
        description="Look for a signed manifest and for this service's watermark in a picture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a PNG, JPEG or WebP")
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="CONFIG",
        help="whose keys and trust anchors, of its first application (default configs/laptop.yaml)",
    )
    return parser
