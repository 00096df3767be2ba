"""No secret is in a log, whatever the level, nor in a refusal."""

import base64
import logging

import httpx
import pytest
from sqlalchemy import Engine
from tests.registry.world import Clock, basic, push_image, seal, unseal

from sanderling.registry import DeviceStanding, RegistryCredentials, Scope
from sanderling.registry.protocol import app

pytestmark = pytest.mark.anyio
SIGNATURE = "SharedAccessSignature sr=hub%2Fdevices%2Fpress-4&sig=c2lnbmF0dXJl&se=99"


class Hub:
    def sign_in(self, device_id: str, signature: str) -> DeviceStanding | None:
        return self.find(device_id) if signature == SIGNATURE else None

    def find(self, device_id: str) -> DeviceStanding | None:
        names = frozenset({"demo/digits"})
        return DeviceStanding("press-4", "1", "secret-mark", names) if device_id == "press-4" else None


@pytest.fixture
def credentials(engine: Engine, clock: Clock) -> RegistryCredentials:
    return RegistryCredentials(engine, seal, unseal, devices=Hub(), clock=clock, monotonic=clock)


async def test_no_flow_logs_a_secret_or_answers_with_one(
    anonymous: httpx.AsyncClient,
    client: httpx.AsyncClient,
    credentials: RegistryCredentials,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "_HOLD_S", 0.0)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # `edge run`, in a test of this process, gave it a level of its own
    await push_image(client)
    admin = credentials.admin("demo")
    issued = credentials.tokens.create("demo", "ci", [Scope.of("demo/*", "pull")])
    short = credentials.issue("build", [Scope.of("demo/*", "pull")], 60)
    secrets = [
        *admin.passwords,
        issued.password,
        issued.token.hash,
        short,
        SIGNATURE,
        "a-wrong-password",
        "secret-mark",
    ]
    refusals = []
    for user, password in (
        ("demo", admin.passwords[0]),
        ("demo", "a-wrong-password"),
        ("demo.ci", issued.password),
        ("demo.ci", "a-wrong-password"),
        ("build", short),
        ("press-4", SIGNATURE),
        ("press-5", SIGNATURE),
        ("nobody", issued.password),
    ):
        scope = {"scope": "repository:demo/digits:pull,push", "offline_token": "true"}
        answer = await anonymous.get("/v2/token", headers=basic(user, password), params=scope)
        if answer.status_code == 200:
            secrets += [answer.json()["token"], answer.json().get("refresh_token", short)]
            bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
            assert (await anonymous.get("/v2/demo/digits/tags/list", headers=bearer)).status_code == 200
            refusals.append(await anonymous.delete("/v2/demo/digits/manifests/1", headers=bearer))
            altered = {"Authorization": f"Bearer {answer.json()['token'][:-2]}"}
            refusals.append(await anonymous.get("/v2/", headers=altered))
        else:
            refusals.append(answer)
        form = {"grant_type": "password", "username": user, "password": password, "service": "x", **scope}
        await anonymous.post("/v2/token", data=form)
        broken = f"{user}:{password}"[:20].encode()
        refusals.append(await anonymous.get("/v2/", headers={"Authorization": f"Basic {broken!r}"}))
    refresh = {"grant_type": "refresh_token", "refresh_token": short + "x"}
    refusals.append(await anonymous.post("/v2/token", data=refresh))
    credentials.tokens.regenerate("demo", "ci")
    credentials.regenerate("demo", "password")
    assert caplog.text, "something was logged at all"
    said = caplog.text + "".join(str(answer.headers) + answer.text for answer in refusals)
    for secret in secrets:
        assert secret not in said
        assert base64.b64encode(secret.encode()).decode()[:40] not in said


async def test_values_with_secrets_do_not_show_them(credentials: RegistryCredentials) -> None:
    admin = credentials.set_admin_enabled("demo", True)
    issued = credentials.tokens.create("demo", "ci", [Scope.of("demo/*", "pull")])
    standing = Hub().find("press-4")
    shown = repr([admin, issued, standing, credentials.authenticate("demo", admin.passwords[0])])
    for secret in (*admin.passwords, issued.password, issued.token.hash, "secret-mark"):
        assert secret not in shown
