"""The records of builds, in SQL. Each change is one transaction and names the state it expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Engine, Row, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from sanderling.errors import Conflict, NotFound
from sanderling.image.events import now_text
from sanderling.image.service.tables import builds, details, metadata, names

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("succeeded", "failed", "cancelled")


class ImageNotFound(NotFound):
    """No image of that name or version is in the workspace."""

    def __init__(self, workspace: str, name: str, version: int | None = None) -> None:
        what = f"{name}:{version}" if version is not None else name
        super().__init__(f"image '{what}' is not in workspace '{workspace}'")
        self.workspace, self.name, self.version = workspace, name, version


class WrongState(Conflict):
    """The build is in a state in which this cannot be done."""

    def __init__(self, image: str, state: str, advice: str) -> None:
        super().__init__(f"image '{image}' is {state}; {advice}")
        self.image, self.state = image, state


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """One version of an image and how its build stands. *models* are "name:version"."""

    workspace: str
    name: str
    version: int
    state: State
    location: str
    platforms: tuple[str, ...]
    models: tuple[str, ...]
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    digest: str | None = None
    size_bytes: int | None = None
    layers: Sequence[Mapping[str, Any]] = ()
    error_kind: str | None = None
    error: str | None = None
    attempts: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False)
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)  # see `sanderling.image.service.record`

    @property
    def id(self) -> str:
        """Name and version as people write them."""
        return f"{self.name}:{self.version}"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINISHED

    @property
    def seconds(self) -> float | None:
        """How long the build took; None before it ends."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((_time(self.finished_at) - _time(self.started_at)).total_seconds(), 3)

    def to_json(self) -> dict[str, Any]:
        """The image as the public API shows it."""
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "state": self.state,
            "location": self.location,
            "digest": self.digest,
            "sizeBytes": self.size_bytes,
            "platforms": list(self.platforms),
            "models": list(self.models),
            "tags": dict(self.tags),
            "properties": dict(self.properties),
            "description": self.description,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "seconds": self.seconds,
            "error": self.error,
            "errorLines": list(self.record.get("errorLines") or ()),
            "culprit": self.record.get("culprit") or None,
            "requestedBy": self.record.get("requestedBy"),
        }


class BuildRecords:
    """Reads and changes the records behind *engine*."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        metadata.create_all(engine)

    def next_version(self, workspace: str, name: str) -> int:
        """A version of *name* that no one else has or ever had."""
        here = (names.c.workspace == workspace) & (names.c.name == name)
        for _ in range(2):
            try:
                with self._engine.begin() as db:
                    raised = db.execute(update(names).where(here).values(last_version=names.c.last_version + 1))
                    if raised.rowcount == 0:
                        db.execute(insert(names).values(workspace=workspace, name=name, last_version=1))
                    return int(db.execute(select(names.c.last_version).where(here)).scalar_one())
            except IntegrityError:  # somebody made the first version at the same moment
                continue
        raise Conflict(f"image '{name}': several builds begin at once; try again")

    def add(
        self,
        workspace: str,
        name: str,
        version: int,
        values: Mapping[str, Any],
        record: Mapping[str, Any],
        max_queued: int,
    ) -> bool:
        """Add a queued build with what its *record* has so far; say whether there was room among the queued."""
        key = {"workspace": workspace, "name": name, "version": version}
        row = key | {"state": "queued", "created_at": now_text()}
        with self._engine.begin() as db:
            waiting = db.execute(select(func.count()).where(builds.c.state == "queued")).scalar_one()
            if waiting >= max_queued:
                return False
            db.execute(insert(builds).values(**row, attempts=0, **values))
            db.execute(insert(details).values(**key, document=dict(record)))
        return True

    def count_queued(self) -> int:
        """How many builds wait."""
        with self._engine.connect() as db:
            return int(db.execute(select(func.count()).where(builds.c.state == "queued")).scalar_one())

    def note(self, build: ImageBuild, **facts: Any) -> None:
        """Add *facts* to the record of *build*."""
        here = _same(details, build)
        with self._engine.begin() as db:
            before = db.execute(select(details.c.document).where(here)).scalar_one_or_none()
            if before is None:
                key = {"workspace": build.workspace, "name": build.name, "version": build.version}
                db.execute(insert(details).values(**key, document=facts))
            else:
                db.execute(update(details).where(here).values(document=before | facts))

    def find(self, workspace: str, name: str, version: int | None = None) -> ImageBuild | None:
        """The build, the latest when *version* is None; or None."""
        query = _BUILDS.where(builds.c.workspace == workspace, builds.c.name == name)
        if version is not None:
            query = query.where(builds.c.version == version)
        with self._engine.connect() as db:
            row = db.execute(query.order_by(builds.c.version.desc()).limit(1)).first()
        return _build(row) if row is not None else None

    def list(
        self, workspace: str | None = None, name: str | None = None, state: State | None = None
    ) -> Sequence[ImageBuild]:
        """The builds, oldest first."""
        query = _BUILDS.order_by(builds.c.id)
        for column, value in ((builds.c.workspace, workspace), (builds.c.name, name), (builds.c.state, state)):
            if value is not None:
                query = query.where(column == value)
        with self._engine.connect() as db:
            return [_build(row) for row in db.execute(query)]

    def change(self, build: ImageBuild, expected: Sequence[State], **values: Any) -> bool:
        """Set *values* when the build is still in one of *expected*; say whether it was."""
        where = _same(builds, build) & builds.c.state.in_(expected)
        with self._engine.begin() as db:
            return db.execute(update(builds).where(where).values(**values)).rowcount == 1

    def remove(self, build: ImageBuild) -> bool:
        """Remove the record of a finished build; say whether it was there and finished."""
        with self._engine.begin() as db:
            removed = db.execute(delete(builds).where(_same(builds, build) & builds.c.state.in_(FINISHED))).rowcount
            if removed:
                db.execute(delete(details).where(_same(details, build)))
            return removed == 1


_BUILDS = select(builds, details.c.document).outerjoin(
    details,
    (details.c.workspace == builds.c.workspace)
    & (details.c.name == builds.c.name)
    & (details.c.version == builds.c.version),
)


def _same(table: Table, build: ImageBuild) -> Any:
    same = (table.c.workspace == build.workspace) & (table.c.name == build.name)
    return same & (table.c.version == build.version)


def _build(row: Row[Any]) -> ImageBuild:
    recipe = row.recipe
    return ImageBuild(
        workspace=row.workspace,
        name=row.name,
        version=row.version,
        state=row.state,
        location=row.location,
        platforms=tuple(recipe["platforms"]),
        models=tuple(f"{model['name']}:{model['version']}" for model in recipe["models"]),
        tags=recipe["tags"],
        properties=row.properties,
        description=recipe["description"],
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        digest=row.digest,
        size_bytes=row.size_bytes,
        layers=row.layers or (),
        error_kind=row.error_kind,
        error=row.error,
        attempts=row.attempts,
        recipe=recipe,
        record=row.document or {},
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
