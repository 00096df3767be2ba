"""How fast images are built and pushed, beside BuildKit with pip and with uv and buildah with pip, in the same run.

    python benchmarks/image.py                     all, three rounds: about twenty minutes
    python benchmarks/image.py --only "sanderling,BuildKit + uv" --repeat 1

A scikit-learn image with a script and a model, pushed to Debian's docker-registry on the loopback. In every round
each builder begins with an empty folder and an empty registry, and they take turns: cold (no package and no layer is
there; the peers have their base image, ours makes its base), then the model changed, then nothing changed. Nothing is
asserted about the figures.
"""

import argparse
import json
import os
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from image_peers import Buildah, Builder, BuildKit, Failed, Inputs, Sanderling, make_base
from registry_servers import PEER, start_peer

from registry import facts

BOTH = ("linux/amd64", "linux/arm64")
BUILDERS = (
    "sanderling",
    "sanderling, tried",
    "sanderling, both CPUs",
    "BuildKit + pip",
    "BuildKit + uv",
    "BuildKit + uv, bytecode",
    "buildah + pip",
)
STAGES = ("cold", "model changed", "unchanged")
INSTALL = "docker-registry is not installed: apt-get install -y --no-install-recommends docker-registry"


def builder(name: str, folder: Path, registry: str) -> Builder:
    """The builder that *name* of BUILDERS stands for."""
    match name:
        case "sanderling":
            return Sanderling(folder, registry)
        case "sanderling, tried":
            return Sanderling(folder, registry, is_tried=True)
        case "sanderling, both CPUs":
            return Sanderling(folder, registry, platforms=BOTH)
        case "buildah + pip":
            return Buildah(folder, registry)
        case _:
            return BuildKit(folder, registry, tool=name.removeprefix("BuildKit + "))


class Run:
    """The measures of one run: by builder and stage one value a round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.work: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.sizes: dict[str, int] = {}
        self.failures: dict[str, str] = {}

    def measure(self, name: str, base: Path) -> None:
        """Measure all stages of one builder in fresh folders."""
        place = Path(tempfile.mkdtemp(prefix="b-", dir=self.folder))
        registry = start_peer(place / "registry", is_tls=False)
        one = builder(name, place / "work", f"localhost:{registry.port}")
        try:
            registry.wait()
            inputs = Inputs(place / "context")
            inputs.write(model())
            one.prepare(base)
            for stage in STAGES:
                if stage == "model changed":
                    inputs.change_model()
                os.sync()
                began = time.perf_counter()
                one.build(inputs)
                self.seconds[name][stage].append(time.perf_counter() - began)
                if isinstance(one, Sanderling):
                    self.work[name][stage].append(one.work_s)
                if stage == "cold":
                    blobs = (place / "registry" / "root").rglob("data")
                    self.sizes[name] = sum(path.stat().st_size for path in blobs)
        except Failed as e:
            self.failures[name] = str(e)
        finally:
            one.close()
            registry.stop()
            shutil.rmtree(place, ignore_errors=True)

    def ratios(self, peer: str, stage: str, ours: str = "sanderling") -> list[float]:
        """How many times longer *peer* took, round by round."""
        pairs = zip(self.seconds[peer][stage], self.seconds[ours][stage], strict=False)
        return [theirs / mine for theirs, mine in pairs]


def model() -> bytes:
    """A pickle of some weight, the same in every round."""
    return pickle.dumps([[float(n * k % 97) for n in range(64)] for k in range(200)])


def plain_base(folder: Path) -> Path:
    """Make our base and return it as a plain tar; its packages are then in the cache below *folder*."""
    import gzip

    from sanderling.blobs import FileBlobs
    from sanderling.image import Log
    from sanderling.image.build import BuildSettings, build
    from sanderling.image.recipe import Recipe, SourceFile

    script = folder / "score.py"
    script.write_text("def init(): pass\n\ndef run(raw_data): return raw_data\n")
    image, blobs = build(
        Recipe("bench/base:1", SourceFile("score.py", script)), BuildSettings(folder / "c"), Log(lambda _: None)
    )
    assert isinstance(blobs, FileBlobs)
    target = folder / "root.tar"
    with gzip.open(blobs.path(image.manifests[0].layers[0].digest)) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    return target


def spread(values: list[float]) -> str:
    """The median, the least and the most."""
    digits = 2 if max(values) < 20 else 1
    middle, least, most = (f"{one:.{digits}f}" for one in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least}-{most})"


def show(run: Run, names: list[str]) -> None:
    """Print the tables."""
    print(f"\n{'seconds, push included':28}" + "".join(f"{stage:>22}" for stage in STAGES) + f"{'pushed, MB':>12}")
    for name in names:
        if name in run.failures:
            print(f"{name:28} failed: {run.failures[name].splitlines()[-1][:120]}")
            continue
        cells = "".join(f"{spread(run.seconds[name][stage]):>22}" for stage in STAGES)
        print(f"{name:28}{cells}{run.sizes[name] / 1e6:>12.1f}")
        if name in run.work:
            cells = "".join(f"{spread(run.work[name][stage]):>22}" for stage in STAGES)
            print(f"{'  of it, work':28}{cells}")
    if "sanderling" not in run.seconds:
        return
    print(f"\n{'times as long as sanderling':28}" + "".join(f"{stage:>22}" for stage in STAGES))
    for name in names:
        if name != "sanderling" and name not in run.failures:
            cells = "".join(f"{spread(run.ratios(name, stage)):>22}" for stage in STAGES)
            print(f"{name:28}{cells}")
    both = "sanderling, both CPUs"
    for name in ("BuildKit + uv", "BuildKit + uv, bytecode"):
        if both in run.seconds and name in run.seconds and name not in run.failures:
            ratio = spread(run.ratios(name, "cold", both))
            print(f"cold, {name} for one CPU takes {ratio} times as long as ours for both")
    print("median (least-most) of rounds; asked by issue 4: cold 4 times BuildKit + pip, model changed 10 times,")
    print("both CPUs no longer than BuildKit + uv for one, and less than 0.5 s of work when nothing changed")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how many rounds (3)")
    parser.add_argument("--only", help=f"some of: {'; '.join(BUILDERS)}; joined by ';'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write facts and all values into FILE too")
    given = parser.parse_args()
    given.only = [one.strip() for one in given.only.split(";")] if given.only else list(BUILDERS)
    if unknown := set(given.only) - set(BUILDERS):
        parser.error(f"--only knows {'; '.join(BUILDERS)}; not {', '.join(sorted(unknown))}")
    if given.repeat < 1:
        parser.error("--repeat is at least 1")
    return given


def main() -> int:
    given = options()
    if PEER is None:
        print(INSTALL, file=sys.stderr)
        return 2
    # containerd refuses a socket's path over 104 bytes.
    folder = Path(tempfile.mkdtemp(prefix="image-", dir="/tmp"))
    try:
        known = facts(folder)
        for name, value in known.items():
            print(f"{name:10} {value}")
        base = make_base(plain_base(folder), folder)
        run = Run(folder)
        for number in range(given.repeat):
            for name in given.only if number % 2 == 0 else given.only[::-1]:
                if name not in run.failures:
                    print(f"round {number + 1} of {given.repeat}: {name}", file=sys.stderr, flush=True)
                    run.measure(name, base)
        show(run, given.only)
        if given.json:
            document = {
                "facts": known,
                "seconds": run.seconds,
                "work": run.work,
                "bytes": run.sizes,
                "failed": run.failures,
            }
            given.json.write_text(json.dumps(document, indent=2) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
