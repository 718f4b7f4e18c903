"""`make shape`: how big the code is and how long the way of a picture, as a table; the last line is
one JSON object."""

from __future__ import annotations

import json

from scripts.shape.picture import files_of_one_picture, order_to_insert
from scripts.shape.source import (
    CORE,
    code_lines,
    duplicate_class_names,
    functions,
    lines,
    longest_import_chain,
    serving,
    sources,
)

FILE_LINES = 400


def figures() -> dict[str, object]:
    """All that is measured, by the keys of the JSON object."""
    core, scripts = sources(*CORE), sources("scripts")
    sizes = {path: lines(text) for path, text in core.items()}
    return {
        "serving_core_loc": sum(code_lines(text) for path, text in core.items() if serving(path)),
        "core_lines_wc": sum(sizes.values()),
        "scripts_lines_wc": sum(map(lines, scripts.values())),
        "files_of_one_picture": len(files_of_one_picture()),
        "max_file_lines": max(sizes.values()),
        "files_over_400": sorted(path for path, size in sizes.items() if size > FILE_LINES),
        "max_function_lines": max(size for text in core.values() for _, size in functions(text)),
        "longest_import_chain": len(longest_import_chain(core)),
        "duplicate_class_names": duplicate_class_names(core),
        "frames_order_to_insert": len(order_to_insert()),
    }


def main() -> None:
    found = figures()
    for key, value in found.items():
        print(f"{key:24} {', '.join(value) if isinstance(value, list) else value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
