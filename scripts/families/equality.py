"""How many pipeline classes draw what the stock pipeline draws, by the tests that prove it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

PROOF = "tests/families/test_equal_to_stock.py"


def equal_classes() -> tuple[set[str], set[str]]:
    """Names of classes that passed every test for each task, alone, in company and resumed; and of
    those that did not. RuntimeError when nothing was tested."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", PROOF]
        subprocess.run([*command, f"--junitxml={report}"], check=False, stdout=subprocess.DEVNULL)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        passed: dict[str, bool] = defaultdict(lambda: True)
        for case in cases:
            name = case.attrib["name"].partition("[")[2].rstrip("]").partition("-")[0]
            passed[name] &= len(case.findall("failure")) + len(case.findall("error")) == 0
    if not passed:
        raise RuntimeError(f"{PROOF} tested nothing")
    equal = {name for name, well in passed.items() if well}
    return equal, passed.keys() - equal
