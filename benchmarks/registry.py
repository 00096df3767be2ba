"""How fast the registry is, beside Debian's docker-registry in the same run.

    python benchmarks/registry.py                    all, three times: about six minutes
    python benchmarks/registry.py --only push,pull --size 128 --repeat 5

Both servers run at once and take turns, and who is first changes; every round begins with fresh processes and
empty folders. Before each timed part all that is dirty is written to the disk. No blob is sent twice to one server.
What was pulled is hashed, outside of the timed part, in the first round. Nothing is asserted about the figures.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry_servers import PEER, Server, start_ours, start_peer

MIB = 1 << 20
SECTIONS = ("push", "chunked", "pull", "parallel", "manifests", "memory", "tls")
PULLS = 64
GETS, CONNECTIONS = 1000, 32
UPLOADS = 32
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INSTALL = "docker-registry is not installed: apt-get install -y --no-install-recommends docker-registry"


class Client:
    """The process that talks to the servers (registry_client.py)."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("registry_client.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, job: str, server: Server, **more: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"job": job, **server.address, **more}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "the client ended"}')
        if "error" in answer:
            raise RuntimeError(f"{server.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Blobs:
    """One file of random bytes; what is sent are parts of it. Its first bytes change, and so do digests."""

    def __init__(self, folder: Path, size: int) -> None:
        self.file, self.size = folder / "blob", size
        with self.file.open("wb") as file:
            for _ in range(0, size, MIB):
                file.write(os.urandom(MIB))
        small = size // 16
        step = (size - small - 4096) // UPLOADS
        self.uploads = [self._part(4096 + n * step, small) for n in range(UPLOADS)]
        little = min(MIB, size // 4)
        step = (size - little - 4096) // PULLS
        self.pulls = [self._part(4100 + n * step, little) for n in range(PULLS)]

    def fresh(self) -> dict[str, Any]:
        """Change the file; return the whole of it as a blob that nobody has."""
        with self.file.open("r+b") as file:
            file.write(os.urandom(32))
        return self._part(0, self.size)

    def _part(self, offset: int, size: int) -> dict[str, Any]:
        hasher = hashlib.sha256()
        with self.file.open("rb") as file:
            file.seek(offset)
            left = size
            while left:
                piece = file.read(min(MIB, left))
                hasher.update(piece)
                left -= len(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        return {"file": str(self.file), "offset": offset, "size": size, "digest": digest}


class Run:
    """Everything of one run: the client, the blobs, the measures."""

    def __init__(self, options: argparse.Namespace, folder: Path, client: Client) -> None:
        self.options, self.folder, self.client = options, folder, client
        self.blobs = Blobs(folder, options.size * MIB)
        # name of the measure -> server -> one value a round
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.cpu: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.ciphers: dict[str, str] = {}
        self.turn = 0

    def wants(self, *sections: str) -> bool:
        return bool(set(sections) & set(self.options.only))

    @contextmanager
    def servers(self, is_tls: bool = False) -> Iterator[list[Server]]:
        """Yield both, fresh and answering; end them and remove what they kept."""
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            peer = start_peer(folder / "peer", is_tls)
            stack.callback(peer.stop)
            ours = start_ours(folder / "ours", is_tls, self.options.server_command)
            stack.callback(ours.stop)
            for server in (peer, ours):
                server.wait()
            yield [peer, ours]

    def measure(self, name: str, servers: list[Server], work: Callable[[Server], float]) -> None:
        """Do *work*, which returns seconds, on each server; who is first changes every time."""
        self.turn += 1
        for server in servers if self.turn % 2 else servers[::-1]:
            os.sync()
            before = server.cpu_s()
            self.values[name][server.name].append(work(server))
            self.cpu[name][server.name].append(server.cpu_s() - before)

    def round(self, is_first: bool) -> None:
        """Measure everything that is wanted once."""
        if self.wants("push", "chunked", "pull", "parallel", "manifests"):
            with self.servers() as servers:
                self._large(servers, is_first, "")
                if self.wants("parallel", "manifests"):
                    self._many(servers, is_first)
        if self.wants("memory"):
            with self.servers() as servers:
                for server in servers:
                    self._memory(server)
        if self.wants("tls"):
            with self.servers(is_tls=True) as servers:
                self._large(servers, is_first, "TLS ")

    def _large(self, servers: list[Server], is_first: bool, prefix: str) -> None:
        blob: dict[str, Any] = {}
        for section, way, name in (("push", "put", "push"), ("chunked", "patch", "push in chunks")):
            if self.wants(section, "pull", "tls") if section == "push" else self.wants(section, "tls"):
                blob = self.blobs.fresh()
                job = {**blob, "repository": "bench/large", "way": way}
                self.measure(f"{prefix}{name}", servers, partial(self._push, job))
        if self.wants("pull", "tls"):
            path = f"/v2/bench/large/blobs/{blob['digest']}"

            def pull(server: Server) -> float:
                answer = self.client("pull", server, path=path)
                if answer["bytes"] != blob["size"]:
                    raise RuntimeError(f"{server.name}: {answer['bytes']} bytes came, not {blob['size']}")
                if answer["cipher"]:
                    self.ciphers[server.name] = answer["cipher"]
                return float(answer["seconds"])

            self.measure(f"{prefix}pull", servers, pull)
            if is_first:
                self._check(servers, [path], [blob["digest"]])

    def _push(self, job: dict[str, Any], server: Server) -> float:
        return float(self.client("push", server, **job)["seconds"])

    def _many(self, servers: list[Server], is_first: bool) -> None:
        parts = self.blobs.pulls
        text = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        config = self.folder / "config.json"
        config.write_bytes(text)
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        layers = [("application/vnd.oci.image.layer.v1.tar", part) for part in parts[:8]]
        manifest = _manifest(digest, len(text), layers)
        sent = [*parts, {"file": str(config), "offset": 0, "size": len(text), "digest": digest}]
        for server in servers:
            jobs = [{**part, **server.address, "repository": "bench/many", "way": "put"} for part in sent]
            self.client("pushes", server, jobs=jobs, at_once=False)
            self.client("put_manifest", server, repository="bench/many", tag="1", manifest=manifest)
        if self.wants("parallel"):
            paths = [f"/v2/bench/many/blobs/{part['digest']}" for part in parts]
            self._gets("64 pulls at once", servers, paths, PULLS, sum(part["size"] for part in parts))
            if is_first:
                self._check(servers, paths, [part["digest"] for part in parts])
        if self.wants("manifests"):
            path = "/v2/bench/many/manifests/1"
            self._gets("1,000 manifests", servers, [path] * GETS, CONNECTIONS, len(manifest) * GETS)
            if is_first:
                self._check(servers, [path], [f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"])

    def _gets(self, name: str, servers: list[Server], paths: list[str], connections: int, size: int) -> None:
        def work(server: Server) -> float:
            answer = self.client("gets", server, paths=paths, connections=connections, accept=f"{MANIFEST}, */*")
            if answer["bytes"] != size:
                raise RuntimeError(f"{server.name}: {answer['bytes']} bytes came, not {size}")
            return float(answer["seconds"])

        for _ in range(self.options.turns):
            self.measure(name, servers, work)

    def _memory(self, server: Server) -> None:
        idle = server.memory("VmRSS")
        blob = self.blobs.fresh()
        self.client("push", server, **blob, repository="bench/memory", way="patch")
        self.client("pull", server, path=f"/v2/bench/memory/blobs/{blob['digest']}")
        after_one = server.memory()
        jobs = [{**p, **server.address, "repository": "bench/memory", "way": "put"} for p in self.blobs.uploads]
        self.client("pushes", server, jobs=jobs, at_once=True)
        for name, value in (
            ("memory: idle", idle),
            ("memory: rise by one push and pull", after_one - idle),
            (f"memory: rise by {UPLOADS} uploads at once too", server.memory() - idle),
        ):
            self.values[name][server.name].append(value / MIB)

    def _check(self, servers: list[Server], paths: list[str], digests: list[str]) -> None:
        for server in servers:
            if self.client("hash", server, paths=paths, accept=f"{MANIFEST}, */*")["digests"] != digests:
                raise RuntimeError(f"{server.name} answered other bytes than it was given")


def _manifest(config: str, size: int, layers: list[tuple[str, dict[str, Any]]]) -> str:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
            "layers": [{"mediaType": kind, "digest": p["digest"], "size": p["size"]} for kind, p in layers],
        }
    )


def facts(folder: Path) -> dict[str, str]:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    peer = subprocess.run([str(PEER), "--version"], capture_output=True, text=True, check=False).stdout.strip()
    mounts = subprocess.run(["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=False)
    usage = shutil.disk_usage(folder)
    has_sha = "yes" if "sha_ni" in info else "no"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{model or platform.machine()}, {os.cpu_count()} cores, SHA-NI {has_sha}",
        "kernel": platform.release(),
        "disk": f"{mounts.stdout.split()[-1] if mounts.stdout.split() else '?'}, {usage.free / 1e9:.0f} GB free",
        "load": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "versions": f"sanderling {_version('sanderling')}, Python {platform.python_version()}, "
        f"uvicorn {_version('uvicorn')}, uvloop {_version('uvloop')}; {peer}",
        "sha256": f"{sha256_rate():.0f} MiB/s in one thread, which bounds any push",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def sha256_rate() -> float:
    """Return how many MiB a second one thread hashes, at its best of five."""
    piece = os.urandom(64 * MIB)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        hashlib.sha256(piece).digest()
        best = max(best, 64 / (time.perf_counter() - began))
    return best


def rows(size: int) -> dict[str, tuple[str, float, str]]:
    """Return for each measure its unit, how much of that is done once, and the ratio that issue 3 asks for."""
    little = min(MIB, size * MIB // 4) / MIB
    return {
        "push": ("MiB/s", size, "2.5"),
        "push in chunks": ("MiB/s", size, "2.5"),
        "pull": ("MiB/s", size, "1.5"),
        "64 pulls at once": ("MiB/s", PULLS * little, "1.0"),
        "1,000 manifests": ("1/s", GETS, "1.0"),
        "TLS push": ("MiB/s", size, ""),
        "TLS push in chunks": ("MiB/s", size, ""),
        "TLS pull": ("MiB/s", size, ""),
    }


def spread(values: list[float]) -> str:
    """The median, the least and the most."""
    digits = 2 if max(values) < 20 else 0
    middle, least, most = (f"{one:.{digits}f}" for one in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least}-{most})"


def show(run: Run, size: int) -> None:
    """Print the tables."""
    heads = "".join(f"{name:>20}" for name in ("docker-registry", "sanderling", "ratio"))
    print(f"\n{'rates':30}{heads}{'asked':>7}   processor s (peer, ours)")
    for name, (unit, amount, asked) in rows(size).items():
        if name in run.values:
            peer, ours = run.values[name]["docker-registry"], run.values[name]["sanderling"]
            ratios = [p / o for p, o in zip(peer, ours, strict=True)]
            cpu = ", ".join(f"{statistics.median(run.cpu[name][s]):.2f}" for s in ("docker-registry", "sanderling"))
            rates = [spread([amount / one for one in values]) for values in (peer, ours)]
            columns = "".join(f"{text:>20}" for text in (*rates, spread(ratios)))
            print(f"{f'{name}, {unit}':30}{columns}{asked:>7}   {cpu}")
    for name in [name for name in run.values if name.startswith("memory")]:
        peer, ours = run.values[name]["docker-registry"], run.values[name]["sanderling"]
        asked = "" if "idle" in name else "< 64"
        print(f"{f'{name}, MiB':44} peer {spread(peer):>14}   ours {spread(ours):>14} {asked:>6}")
    if run.ciphers:
        print("TLS: " + ", ".join(f"{name} {cipher}" for name, cipher in run.ciphers.items()))
    print("median (least-most); a ratio over 1 means that sanderling is faster, round by round; asked: by issue 3")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how many rounds (3)")
    parser.add_argument("--size", type=int, default=512, help="the large blob, in MiB (512)")
    parser.add_argument(
        "--turns", type=int, default=5, help="how often in a round what takes a fraction of a second is measured (5)"
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of: {','.join(SECTIONS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write facts and all values into FILE too")
    parser.add_argument("--folder", type=Path, help="where blobs and both servers' folders lie for the time of the run")
    parser.add_argument(
        "--server-command",
        help="another server of ours; --root DIR --port P --no-auth [--http] are added, or {root} and {port} replaced",
    )
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(SECTIONS):
        parser.error(f"--only knows {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}")
    if min(given.repeat, given.size, given.turns) < 1:
        parser.error("--repeat, --size and --turns are at least 1")
    return given


def main() -> int:
    given = options()
    if PEER is None:
        print(INSTALL, file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="registry-benchmark-", dir=given.folder))
    client = Client()
    try:
        known = facts(folder)
        for name, value in known.items():
            print(f"{name:10} {value}")
        run = Run(given, folder, client)
        for number in range(given.repeat):
            print(f"round {number + 1} of {given.repeat}", file=sys.stderr, flush=True)
            run.round(is_first=number == 0)
        show(run, given.size)
        if given.json:
            document = {"facts": known, "sizeMiB": given.size, "seconds": run.values, "processorSeconds": run.cpu}
            given.json.write_text(json.dumps(document, indent=2) + "\n")
    finally:
        client.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
