"""LitServe with its own batching: each worker process draws one static batch at a time."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import litserve

from scripts.bench.drawing import Drawer
from scripts.bench.workload import Ask, Recipe, ask_of

WAIT_SECONDS = 0.05


class BatchApi(litserve.LitAPI):  # type: ignore[misc]
    """recipe: how each worker draws; its batch is LitServe's largest. wait: for one to fill."""

    def __init__(self, recipe: Mapping[str, Any], wait_seconds: float) -> None:
        super().__init__(
            max_batch_size=recipe["batch"],
            batch_timeout=wait_seconds,
            api_path="/v1/images/generations",
        )
        self._recipe = recipe

    def setup(self, device: str) -> None:
        recipe = Recipe.from_json(self._recipe)
        self._passes, self._drawer = recipe.passes, Drawer(recipe)

    # LitServe makes schemas of these signatures; without annotations it passes JSON as it is.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return ask_of(request, self._passes)

    def batch(self, inputs: list[Ask]) -> list[Ask]:
        return inputs

    def predict(self, inputs: list[Ask] | Ask) -> list[bytes] | bytes:
        """With batches of one LitServe has no lists, and calls neither batch nor unbatch."""
        if isinstance(inputs, Ask):
            return self._drawer.draw([inputs])[0]
        return self._drawer.draw(inputs)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"data": [{"b64_json": base64.b64encode(output).decode()}]}


def main() -> None:
    port, recipe, workers = int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    wait = float(sys.argv[4]) if len(sys.argv) > 4 else WAIT_SECONDS
    server = litserve.LitServer(
        BatchApi(recipe, wait), accelerator="cpu", workers_per_device=workers, timeout=False
    )
    server.run(
        host="127.0.0.1", port=port, log_level="error", num_api_servers=1,
        generate_client_file=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
