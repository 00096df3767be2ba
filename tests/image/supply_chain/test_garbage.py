"""The registry keeps what is told about an image as long as the image, and no longer."""

import asyncio
import time
from pathlib import Path

import httpx

from sanderling.blobs import FileBlobs
from sanderling.image import Log, PushTarget
from sanderling.image.push import push
from sanderling.image.supply_chain.attachments import told_about
from sanderling.registry import Registry, Rule
from sanderling.signatures import cosign
from sanderling.signatures.keys import SigningKey
from tests.image.supply_chain import world
from tests.image.supply_chain.test_attach import WHEN
from tests.registry.serving import served
from tests.registry.world import basic, make_engine

DAY_S = 24 * 3600.0
KEY = SigningKey.generate()


def test_what_is_told_about_an_image_stays_with_it_and_goes_with_it(tmp_path: Path, log: Log) -> None:
    engine, kept = make_engine(tmp_path / "db"), FileBlobs(tmp_path / "registry")
    with served(tmp_path, kept, engine) as (address, credentials):
        user = credentials.set_admin_enabled("demo", True)
        login = {"username": user.username, "password": user.passwords[0]}
        images, told = [], []
        for number in ("1", "2"):
            blobs, made = FileBlobs(tmp_path / "cache"), world.recipe(tmp_path / number, world.AMD64, world.ARM64)
            image = world.image(made, blobs, f"image {number}")
            target = PushTarget(address, "demo/digits", number, plain_http=True, **login)
            about = told_about(image, made, f"{address}/demo/digits", KEY, WHEN, log)
            push(image, blobs, target, log, attachments=about)
            images.append(image)
            told.append(about)
        later = Registry(engine, kept, credentials, address, clock=lambda: time.time() + 10 * DAY_S)
        headers = basic(user.username, user.passwords[0])

        def listed(number: int) -> set[str]:
            subjects = [images[number].descriptor.digest, *(m.digest for m in images[number].manifests)]
            return {
                str(entry["digest"])
                for subject in subjects
                for entry in httpx.get(f"http://{address}/v2/demo/digits/referrers/{subject}", headers=headers).json()[
                    "manifests"
                ]
            }

        asyncio.run(later.collect_garbage())  # no rule: all of it stays, with all its content
        assert listed(0) == {str(one.manifest.digest) for one in told[0]}
        assert all(kept.find(digest) for one in told[0] for digest in one.blobs)

        later.space.retention.set_rule(Rule("demo/*", keep_last=1))
        asyncio.run(later.collect_garbage())
        assert listed(0) == set()
        assert listed(1) == {str(one.manifest.digest) for one in told[1]}
        tags = {tag.name for tag in later.tags("demo/digits")}
        mine = {cosign.tag(m.digest, suffix) for m in images[1].manifests for suffix in ("sig", "att")}
        assert tags == {"2", *mine, *(cosign.tag(images[1].descriptor.digest, suffix) for suffix in ("sig", "att"))}
        gone = {digest for one in told[0] for digest in one.blobs} - {digest for one in told[1] for digest in one.blobs}
        assert gone
        assert not any(kept.find(digest) for digest in gone)
    engine.dispose()
