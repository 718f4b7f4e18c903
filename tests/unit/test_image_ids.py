"""Public ids of images: what is made can be read, and nothing else."""

from __future__ import annotations

import pytest

from jobs.job import image_id, new_job_id, parse_image_id


@pytest.mark.parametrize("index", [0, 9])
def test_an_id_leads_back_to_its_image(index: int) -> None:
    job = new_job_id()
    assert parse_image_id(image_id(job, index)) == (job, index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "img_",
        "img_" + "0" * 32,
        f"img_{'0' * 32}_10",
        f"img_{'0' * 32}_1\n",
        f"img_{'G' * 32}_1",
    ],
)
def test_nothing_else_is_one(text: str) -> None:
    assert parse_image_id(text) is None
