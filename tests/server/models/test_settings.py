"""How an operator names a model: what is taken from where, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.e2e.serving import REPOSITORY

from stepwire_server.models import MODEL_SETTINGS, Limits, Model, model_from
from stepwire_server.models.secrets import Secret
from stepwire_server.models.settings import key_of

from .endpoint import Endpoint, says
from .silent import Silent

KEY = "sk-canary-0123456789abcdef"
LOCAL = {"model": "tiny", "model-url": "http://localhost:9/v1"}


async def authorization(settings: dict[str, str], environment: dict[str, str]) -> str | None:
    """Returns the header that a request has."""
    with Endpoint([says("ab")]) as endpoint:
        model = model_from({"model": "tiny", "model-url": endpoint.url, **settings}, environment)
        assert model is not None
        try:
            await model.text(Silent(), "Hi")  # type: ignore[arg-type]  # It says nothing to anybody.
        finally:
            await model.close()
        return endpoint.requests[0].headers.get("authorization")


def test_no_model() -> None:
    """Where no model is named there is none, and a setting that would need one is named."""
    assert model_from({}, {}) is None
    with pytest.raises(ValueError, match=r"^model-url is set, and no model is named: --set model=NAME$"):
        model_from({"model-url": "http://localhost:9/v1"}, {})


async def test_where_the_key_is_from(tmp_path: Path) -> None:
    """The key is the file's, else the environment's, and where there is none no header is sent."""
    file = tmp_path / "key"
    file.write_text("sk-of-the-file\n", "utf-8")
    environment = {"OPENAI_API_KEY": "sk-of-the-environment"}
    assert await authorization({"model-key-file": str(file)}, environment) == "Bearer sk-of-the-file"
    assert await authorization({}, environment) == "Bearer sk-of-the-environment"
    assert await authorization({}, {}) is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"two words", "the key has a character that no key has"),
        ("schlüssel".encode(), "the key has a character that no key has"),
        (b"\xff\xfe", "can't be read: it is no text"),
        (None, "can't be read: No such file or directory"),
    ],
    ids=["empty", "blank", "words", "umlaut", "bytes", "missing"],
)
def test_a_key_file_that_has_none(tmp_path: Path, content: bytes | None, text: str) -> None:
    """A file that has no key is refused at the start, by its name and without what it has."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="model-key-file") as raised:
        model_from({**LOCAL, "model-key-file": str(file)}, {})
    assert text in str(raised.value)
    assert "two words" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_openai_needs_a_key() -> None:
    """Without a URL the endpoint is OpenAI's, which needs a key; OPENAI_BASE_URL may name another."""
    with pytest.raises(ValueError, match="set OPENAI_API_KEY or model-key-file; or name another endpoint: model-url"):
        model_from({"model": "tiny"}, {})
    named = model_from({"model": "tiny"}, {"OPENAI_BASE_URL": "http://localhost:9/v1"})
    assert repr(named) == "Model('tiny', url='http://localhost:9/v1')"


@pytest.mark.parametrize("url", ["localhost:9", "ftp://host/v1", "http://", "http://[", "v1", "http://host:99999/v1"])
def test_a_url_that_is_none(url: str) -> None:
    """What is no URL of an endpoint is refused at the start, with what one looks like."""
    with pytest.raises(ValueError, match=r"^model-url is no URL of an endpoint; it looks like http://"):
        model_from({"model": "tiny", "model-url": url}, {})


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret", "http://host/v1#secret"])
def test_a_url_with_a_secret(url: str) -> None:
    """A URL stands in messages: one that has credentials is refused, without them."""
    with pytest.raises(ValueError, match="a key goes into model-key-file") as raised:
        model_from({"model": "tiny", "model-url": url}, {})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model-first-piece", "0"),
        ("model-next-piece", "-1"),
        ("model-time-limit", "nan"),
        ("model-time-limit", "90000"),
        ("model-next-piece", "soon"),
        ("model-tries", "0"),
        ("model-tries", "2.5"),
        ("model-tries", "101"),
    ],
)
def test_a_limit_that_is_none(name: str, text: str) -> None:
    """A limit outside of its bounds is refused at the start, by name."""
    with pytest.raises(ValueError, match=f"^{name} is '{text}'; it must be "):
        model_from({**LOCAL, name: text}, {})


def test_limits_are_taken() -> None:
    """Limits are as they are set, and the explanations have the defaults."""
    limits = {"model-first-piece": "1.5", "model-next-piece": "2", "model-time-limit": "30", "model-tries": "7"}
    model = model_from({**LOCAL, **limits}, {})
    assert model is not None
    assert model.limits == Limits(first=1.5, between=2, whole=30, tries=7)
    default = Limits()
    for name, value in zip(limits, (default.first, default.between, default.whole, default.tries), strict=True):
        assert f"({value:g})" in MODEL_SETTINGS[name]


def test_the_readme_names_what_there_is() -> None:
    """The app's README names every setting, with its default, and none that is not there."""
    text = (REPOSITORY / "server/stepwire_server/models/README.md").read_text("utf-8")
    assert set(re.findall(r"\bmodel-[a-z-]+\b", text)) | {"model"} == set(MODEL_SETTINGS)
    for name, explanation in MODEL_SETTINGS.items():
        if default := re.search(r"\((\d+)\)\.$", explanation):
            assert re.search(rf"`{name}` \({default[1]}( s)?\)", text), name


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the openai library the start says in one line what to install."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"^models need the openai library: pip install 'stepwire\[server,agents\]'$"):
        model_from(LOCAL, {})


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.1/v1", True),
        ("http://127.0.0.2/v1", False),
        ("http://localhost/v1", False),
        ("https://a/v1", False),
    ],
)
def test_a_key_in_clear_text(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A key that would go to another machine unencrypted is warned of, and not shown."""
    key_of({}, {"OPENAI_API_KEY": KEY}, url=url)
    assert ("in clear text" in caplog.text) == warned
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"wrong key {KEY}, sorry", "wrong key [redacted], sorry"),
        (f"{KEY}{KEY}", "[redacted]"),
        (f"cut {KEY[:12]}...{KEY[-9:]}", "cut [redacted]...[redacted]"),
        ('{"Authorization": "Bearer another-key"}', '{"Authorization": "Bearer [redacted]"}'),
        ("nothing of it", "nothing of it"),
    ],
    ids=["whole", "twice", "cut", "header", "none"],
)
def test_what_is_redacted(text: str, shown: str) -> None:
    """No text keeps the key, a longer part of it, or what is marked as credentials."""
    assert Secret(KEY).redacted(text) == shown


def test_a_short_key_is_redacted_too() -> None:
    """A key of few characters is found as a whole, and no key changes no text."""
    assert Secret("abc").redacted("xabcx ab") == "x[redacted]x ab"
    assert Secret("").redacted("x") == "x"


def test_nothing_shows_the_key() -> None:
    """Neither a model's repr nor its secret's has the key."""
    assert KEY not in repr(Model("tiny", url="http://localhost:9/v1", key=KEY))
    assert KEY not in repr(Secret(KEY))
