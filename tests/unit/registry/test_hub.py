"""Bundles through huggingface_hub's own client, against a stand-in of the Hub's HTTP API."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from paluku.errors import CheckpointError, ConfigError, ServiceError, StorageError
from paluku.registry.bundle import check_bundle, open_bundle, read_bundle
from paluku.registry.hub import Address, Hub
from paluku.registry.publication import PublishConfig, publication
from tests.fakes.bundle import tiny_bundle
from tests.fakes.hub import READER, TOKEN, FakeHub

# The client's own use of its HTTP library, when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPOSITORY = "someone/te-talk"
MAIN = f"hub:{REPOSITORY}@main"
CARD = "---\nlicense: cc-by-sa-4.0\nlanguage: [te]\n---\n# A model\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_bundle(tmp_path_factory.mktemp("bundle"))
    for part in ("codec", "s2s"):
        (folder / part / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    assert constants.HF_HUB_DISABLE_XET, "the stand-in has no xet: tests/conftest.py switches it off"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with FakeHub().running() as hub:
        yield hub


def hub_of(fake: FakeHub, tmp_path: Path, token: str | None = None) -> Hub:
    return Hub(fake.endpoint, token, tmp_path / "cache")


def published(fake: FakeHub, tmp_path: Path, bundle: Path, **changes: object) -> Address:
    config = PublishConfig.model_validate({"repository": REPOSITORY, **changes})
    files = publication(bundle, config)
    return hub_of(fake, tmp_path).push(REPOSITORY, files, "Publish", private=config.private)


def test_a_bundle_goes_up_in_one_commit_and_comes_back_whole(
    fake: FakeHub, tmp_path: Path, bundle: Path
) -> None:
    done = published(fake, tmp_path, bundle)
    repo = fake.repos[REPOSITORY]
    assert repo.private
    assert repo.messages == ["initial commit", "Publish"]
    folder = open_bundle(str(done), hub=hub_of(fake, tmp_path))
    assert folder.name == done.revision == repo.refs["main"]
    assert check_bundle(folder) == read_bundle(bundle)
    sent = set(repo.commits[done.revision])
    assert {"README.md", "LICENSE", "NOTICE", "s2s/README.md", "codec/model.safetensors"} <= sent
    assert f"PUT /lfs/{next(iter(fake.blobs))}" in fake.requests  # weights go by Git LFS


def test_what_is_published_again_replaces_everything(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    (samples / "a.wav").write_bytes(b"RIFF")
    first = published(fake, tmp_path, bundle, samples=str(samples))
    second = published(fake, tmp_path, bundle)
    commits = fake.repos[REPOSITORY].commits
    assert set(commits[first.revision]) - set(commits[second.revision]) == {"samples/a.wav"}
    assert ".gitattributes" in commits[second.revision]


def test_the_repository_is_private_until_asked_otherwise(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    for asked, private in ((None, True), (False, False), (None, False), (True, True)):
        published(fake, tmp_path, bundle, private=asked)
        assert fake.repos[REPOSITORY].private is private


def test_a_branch_is_told_by_the_commit_that_it_is_now(
    fake: FakeHub, tmp_path: Path, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = published(fake, tmp_path, bundle)
    with caplog.at_level(logging.INFO, "paluku.hub"):
        open_bundle(str(first), hub=hub_of(fake, tmp_path))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    caplog.clear()
    published(fake, tmp_path, bundle, message="again", samples=None, licence="cc-by-4.0")
    with caplog.at_level(logging.INFO, "paluku.hub"):
        folder = open_bundle(MAIN, hub=hub_of(fake, tmp_path))
    assert folder.name == fake.repos[REPOSITORY].refs["main"] != first.revision
    assert f"hub:{REPOSITORY}@{folder.name}" in caplog.messages[0]
    assert caplog.records[0].levelname == "WARNING"


def test_the_cache_serves_when_the_hub_is_gone(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    commit = published(fake, tmp_path, bundle)
    hub = hub_of(fake, tmp_path)
    folder = open_bundle(MAIN, hub=hub)
    gone = Hub("http://127.0.0.1:9", None, tmp_path / "cache")  # nobody listens at discard's port
    assert open_bundle(MAIN, hub=gone) == open_bundle(str(commit), hub=gone) == folder
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 cannot be reached, and the cache does not have"):
        open_bundle(f"hub:{REPOSITORY}@v2", hub=gone)


def test_nothing_is_fetched_twice(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    commit = published(fake, tmp_path, bundle)
    open_bundle(str(commit), hub=hub_of(fake, tmp_path))
    fake.requests.clear()
    open_bundle(str(commit), hub=hub_of(fake, tmp_path))
    assert not [asked for asked in fake.requests if asked.startswith(("GET /blob/", "GET /someone"))]


@pytest.mark.parametrize("part", ["codec/model.safetensors", "s2s/config.json"])
def test_a_damaged_file_is_found_whether_here_or_there(
    fake: FakeHub, tmp_path: Path, bundle: Path, part: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    files = publication(broken, PublishConfig(repository=REPOSITORY))
    data = bytearray((broken / part).read_bytes())
    data[-2] ^= 1
    (broken / part).write_bytes(data)  # after the check, before the push
    with pytest.raises(CheckpointError, match=f"{part} has sha256"):
        publication(broken, PublishConfig(repository=REPOSITORY))
    commit = hub_of(fake, tmp_path).push(REPOSITORY, files, "Publish")
    with pytest.raises(
        CheckpointError, match=rf"{part} has sha256.*Remove .*models--someone--te-talk and try"
    ):
        open_bundle(str(commit), hub=hub_of(fake, tmp_path))


@pytest.mark.parametrize("spec", ["hub:someone/te-talk", "hub:te-talk@main", "hub:a/b@", "hub:a/b@x y"])
def test_an_address_without_a_revision_is_refused(spec: str) -> None:
    with pytest.raises(CheckpointError, match="is not hub:OWNER/NAME@REVISION; name the revision"):
        open_bundle(spec)


def test_what_is_not_there_is_said(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    hub = hub_of(fake, tmp_path)
    with pytest.raises(CheckpointError, match="no such repository"):
        open_bundle("hub:someone/else@main", hub=hub)
    published(fake, tmp_path, bundle)
    with pytest.raises(CheckpointError, match="hub:someone/te-talk@v9: the repository has no such revision"):
        open_bundle(f"hub:{REPOSITORY}@v9", hub=hub)
    fake.repos[REPOSITORY].commit({"README.md": b"hello"}, "no bundle")
    with pytest.raises(CheckpointError, match=r"holds no bundle.json"):
        open_bundle(MAIN, hub=hub)


def test_tokens_that_do_not_fit_are_said(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    commit = published(fake, tmp_path, bundle)
    with pytest.raises(ServiceError, match="the token is refused"):
        open_bundle(str(commit), hub=hub_of(fake, tmp_path, "hf_wrong"))
    for token, message in (("hf_wrong", "the token is refused"), (READER, "the token may not write there")):
        with pytest.raises(ServiceError, match=message):
            hub_of(fake, tmp_path, token).push(REPOSITORY, {"README.md": CARD.encode()}, "x")


def test_a_hub_that_fails_or_is_not_there_is_said(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    published(fake, tmp_path, bundle)
    before = list(fake.repos[REPOSITORY].commits)
    files = {"README.md": CARD.encode()}
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 cannot be reached"):
        Hub("http://127.0.0.1:9", TOKEN).push(REPOSITORY, files, "x")
    fake.fails[f"/api/models/{REPOSITORY}/commit"] = 500
    with pytest.raises(ServiceError, match="it answers 500"):
        hub_of(fake, tmp_path).push(REPOSITORY, files, "x")
    fake.fails = {"/lfs/": 403}
    with pytest.raises(ServiceError, match=r"new.safetensors.*no commit was made: publish again"):
        hub_of(fake, tmp_path).push(REPOSITORY, files | {"new.safetensors": b"new"}, "x")
    assert list(fake.repos[REPOSITORY].commits) == before


def test_a_card_that_the_hub_refuses_is_said_before_anything_is_uploaded(
    fake: FakeHub, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match='"license" must be one of'):
        hub_of(fake, tmp_path).push(REPOSITORY, {"README.md": b"---\nlicense: MIT\n---\n"}, "x")
    assert not [request for request in fake.requests if "preupload" in request]


def test_a_place_that_takes_nothing_is_said(fake: FakeHub, tmp_path: Path, bundle: Path) -> None:
    commit = published(fake, tmp_path, bundle)
    hub = Hub(fake.endpoint, None, Path("/sys/paluku-cache"))  # nobody may make a folder there
    with pytest.raises(StorageError, match=r"cannot be kept.*set HF_HOME"):
        open_bundle(str(commit), hub=hub)
