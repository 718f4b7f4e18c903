"""The store of pictures is a bucket whose server dies: nothing is lost and nothing drawn again."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from jobs.blobs.s3 import S3Blobs
from jobs.job import JobState
from scripts.servers.seaweedfs import SeaweedFS
from serve_app.config.blobs import S3Section
from tests.dispatch.dispatch_kit import once, undisturbed, until, world
from tests.dispatch.dispatch_stages import Files


async def test_a_picture_waits_in_finishing_until_the_bucket_is_back(
    tmp_path: Path, seaweedfs: SeaweedFS
) -> None:
    blobs = S3Blobs(S3Section(**seaweedfs.section(prefix=secrets.token_hex(8))).place())
    async with world(tmp_path) as it:
        it.files = Files(blobs)
        seaweedfs.stop()
        try:
            job = it.submit()
            it.start()
            await it.when(job, lambda job: job.state is JobState.FINISHING, "it waits in finishing")
            await until(lambda: it.lane.pictures_alive == 0, "no process holds its pixels")
        finally:
            seaweedfs.start()  # it ends with the thread that started it
        ended = await it.ended(job)
        assert (ended.attempts, ended.renders[0].attempts, ended.errors) == (0, 0, ())
        (key,) = [render.blob for render in ended.renders]
        assert key is not None
        assert await asyncio.to_thread(blobs.get, key) == undisturbed(job.request)[0]
        assert it.told == once(job), "finished from its last checkpoint"
