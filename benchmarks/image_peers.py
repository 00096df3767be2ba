"""The builders that are compared: each takes one recipe of an image to a registry, in a folder of its own.

Engines from Debian: docker.io 20.10 with BuildKit, buildah. Their base is made of our own Debian base, with pip and
uv put in, because the machine may reach no registry.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REQUIREMENTS = ("scikit-learn",)
DOCKERFILE = """\
FROM {base}
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
COPY requirements.txt /tmp/requirements.txt
RUN {install}
COPY sanderling_scoring /usr/lib/python3/dist-packages/sanderling_scoring
COPY model.pkl /var/azureml-app/azureml-models/digits/1/model.pkl
COPY score.py /var/azureml-app/score.py
ENV AZUREML_ENTRY_SCRIPT=score.py AML_APP_ROOT=/var/azureml-app
WORKDIR /var/azureml-app
USER 65532:65532
ENTRYPOINT ["/usr/bin/python3", "-m", "sanderling_scoring"]
"""
# No shell is in the base, so commands are lists.
PIP = [
    "/usr/bin/python3",
    "-m",
    "pip",
    "install",
    "--no-cache-dir",
    "--break-system-packages",
    "--root-user-action=ignore",
]
UV = [
    "/usr/bin/uv",
    "pip",
    "install",
    "--system",
    "--break-system-packages",
    "--no-cache",
    "--python",
    "/usr/bin/python3",
]
INSTALLS = {
    "pip": [*PIP, "-r", "/tmp/requirements.txt"],
    "uv": [*UV, "-r", "/tmp/requirements.txt"],
    "uv, bytecode": [*UV, "--compile-bytecode", "-r", "/tmp/requirements.txt"],
}


class Failed(RuntimeError):
    """A builder ended with an error."""


def run(command: Sequence[str], env: dict[str, str] | None = None, text: str | None = None) -> str:
    """Run *command*; return what it printed. Raises Failed with its last words."""
    done = subprocess.run(command, env=env, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:4])} ...: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


@dataclass
class Inputs:
    """The user's files, in a folder that is a build context too."""

    folder: Path
    changes: int = 0

    def write(self, model: bytes) -> None:
        self.folder.mkdir(parents=True)
        self.model = model
        (self.folder / "model.pkl").write_bytes(model)
        (self.folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n")
        lines = ["name: project_environment", "dependencies:", "  - python=3.11", "  - pip:"]
        lines += [f"    - {one}" for one in REQUIREMENTS]
        (self.folder / "myenv.yml").write_text("\n".join(lines) + "\n")
        script = "import sklearn.linear_model\n\ndef init():\n    pass\n\ndef run(raw_data):\n    return raw_data\n"
        (self.folder / "score.py").write_text(script)
        spec = importlib.util.find_spec("sanderling_scoring")
        assert spec is not None
        assert spec.submodule_search_locations
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(spec.submodule_search_locations[0], self.folder / "sanderling_scoring", ignore=ignored)

    def change_model(self) -> None:
        """Give the model bytes that it never had."""
        self.changes += 1
        (self.folder / "model.pkl").write_bytes(self.model + f"change {self.changes} {os.urandom(4).hex()}".encode())


def make_base(root_tar: Path, folder: Path) -> Path:
    """Return a tar of *root_tar* (a plain tar of our base) with pip and uv, and this machine's certificates."""
    wheels = folder / "tools"
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), "pip", "uv"])
    target = folder / "base.tar"
    certificates = "etc/ssl/certs/ca-certificates.crt"
    bundle = Path(os.environ.get("SSL_CERT_FILE", f"/{certificates}"))
    with tarfile.open(root_tar) as source, tarfile.open(target, "w") as tar:
        for member in source:
            if member.name != certificates or not bundle.exists():
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
        if bundle.exists():
            tar.add(bundle.resolve(), certificates, filter=_root)
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for info in (info for info in archive.infolist() if not info.is_dir()):
                    is_uv = info.filename.endswith(".data/scripts/uv")
                    place = "usr/bin/uv" if is_uv else f"usr/lib/python3/dist-packages/{info.filename}"
                    added = tarfile.TarInfo(place)
                    added.size, added.mode = info.file_size, 0o755 if is_uv else 0o644
                    with archive.open(info) as file:
                        tar.addfile(added, file)
    return target


def _root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


@dataclass
class Builder:
    """A builder in a fresh folder. `build` makes the image and pushes it to *registry* (host:port, no TLS)."""

    folder: Path
    registry: str
    variables: dict[str, str] = field(default_factory=dict)

    def prepare(self, base: Path) -> None:
        """What is there before a build begins: not measured."""

    def build(self, inputs: Inputs) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """End what runs, remove what is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Sanderling(Builder):
    """Our worker, as the server starts it."""

    platforms: tuple[str, ...] = ("linux/amd64",)
    is_tried: bool = False  # whether init() must succeed in a sandbox before the push: no peer does that
    work_s: float = 0.0

    def prepare(self, base: Path) -> None:
        self.folder.mkdir(parents=True)

    def build(self, inputs: Inputs) -> None:
        def file(name: str) -> dict[str, object]:
            return {"path": name, "source": str(inputs.folder / name), "mode": 0o644}

        spec = {
            "recipe": {
                "image": "bench/ours:1",
                "script": file("score.py"),
                "environment": file("myenv.yml"),
                "models": [{"name": "digits", "version": 1, "files": {"model.pkl": str(inputs.folder / "model.pkl")}}],
                "platforms": list(self.platforms),
                "gate": self.is_tried,
            },
            "cache": str(self.folder / "cache"),
            "output": {"push": {"registry": self.registry, "repository": "bench/ours", "tag": "1", "plainHttp": True}},
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec))
        out = run([sys.executable, "-m", "sanderling.image", str(path)], text="{}\n")
        self.result = json.loads(out.splitlines()[-1])["result"]
        self.work_s = float(self.result["seconds"])


@dataclass
class BuildKit(Builder):
    """docker build with BuildKit, and docker push."""

    tool: str = "pip"

    def prepare(self, base: Path) -> None:
        self.folder.mkdir(parents=True)
        docker, dockerd = "/usr/bin/docker", shutil.which("dockerd", path=os.environ["PATH"] + ":/usr/sbin")
        if dockerd is None or not Path(docker).exists():
            raise Failed("docker.io is not installed: apt-get install -y --no-install-recommends docker.io")
        address = f"unix://{self.folder}/s"
        options = ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec", "-H", address]
        options += ["--pidfile", f"{self.folder}/pid", "--iptables=false", "--ip6tables=false"]
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.daemon = subprocess.Popen([dockerd, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while b"API listen" not in self.log.read_bytes():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise Failed(self.log.read_text()[-2000:])
            time.sleep(0.1)
        self.docker = [docker, "-H", address]
        self.environment = {**os.environ, "DOCKER_BUILDKIT": "1", "HOME": str(self.folder)}
        run([*self.docker, "import", str(base), "bench-base:1"], self.environment)

    def build(self, inputs: Inputs) -> None:
        text = DOCKERFILE.format(base="bench-base:1", install=json.dumps(INSTALLS[self.tool]))
        (inputs.folder / "Dockerfile").write_text(text)
        name = f"{self.registry}/bench/{self.tool.split(',')[0]}:1"
        build = [*self.docker, "build", "--quiet", "--network", "host", "--tag", name, str(inputs.folder)]
        run(build, self.environment)
        run([*self.docker, "push", "--quiet", name], self.environment)

    def close(self) -> None:
        if hasattr(self, "daemon"):
            self.daemon.terminate()
            self.daemon.wait(60)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if one.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=False)
        super().close()


@dataclass
class Buildah(Builder):
    """buildah bud with layers, and buildah push."""

    tool: str = "pip"

    def prepare(self, base: Path) -> None:
        self.folder.mkdir(parents=True)
        program = shutil.which("buildah")
        if program is None:
            raise Failed("buildah is not installed: apt-get install -y --no-install-recommends buildah")
        storage = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "overlay"]
        self.buildah = [program, *storage]
        policy = self.folder / "policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.environment = {**os.environ, "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        self.policy = ["--signature-policy", str(policy)]
        context = self.folder / "base"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        os.link(base, context / "base.tar")
        run(
            [*self.buildah, "bud", *self.policy, "--isolation", "chroot", "-t", "bench-base:1", str(context)],
            self.environment,
        )

    def build(self, inputs: Inputs) -> None:
        text = DOCKERFILE.format(base="localhost/bench-base:1", install=json.dumps(INSTALLS[self.tool]))
        (inputs.folder / "Dockerfile").write_text(text)
        name = f"{self.registry}/bench/buildah:1"
        limits = ["--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        build = [*self.buildah, "bud", *self.policy, "--layers", *limits, "--network", "host", "-t", name]
        run([*build, str(inputs.folder)], self.environment)
        run([*self.buildah, "push", *self.policy, "--tls-verify=false", name], self.environment)
