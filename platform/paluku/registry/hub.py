"""Bundles on the Hugging Face Hub, by `huggingface_hub`'s own client: one commit up, one revision down.

An address is `hub:OWNER/NAME@REVISION`; a revision is a commit, a tag or a branch. Endpoint, token and cache
are the client's: HF_ENDPOINT, HF_TOKEN (or `hf auth login`), HF_HOME.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
    snapshot_download,
)
from huggingface_hub.errors import (
    FileMetadataError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from paluku.errors import UNWRITABLE, CheckpointError, ConfigError, PalukuError, ServiceError, StorageError
from paluku.log import logger

PREFIX = "hub:"
ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[^\s@]+)")
COMMIT = re.compile(r"[0-9a-f]{40}")
# A bundle (`registry.bundle`) and what its licences ask to be kept with it; samples stay on the Hub.
PULLED = ("bundle.json", "tokenizer.json", "codec/*", "s2s/*", "speakers/*", "README.md", "LICENSE", "NOTICE")
OF_THE_HUB = ".gitattributes"  # every repository has it from its first commit

log = logger("hub")


class Address(NamedTuple):
    """One revision of a repository of models."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}@{self.revision}"

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Read `hub:OWNER/NAME@REVISION`.

        Raises:
            CheckpointError: when it is written otherwise; a revision is never guessed.
        """
        match = ADDRESS.fullmatch(spec)
        if match is None:
            raise CheckpointError(
                f"{spec!r} is not hub:OWNER/NAME@REVISION; name the revision too: a commit, a tag or a branch"
            )
        return cls(match["repository"], match["revision"])


class Hub:
    """A Hub by its endpoint; what is not given is what the environment says."""

    def __init__(
        self, endpoint: str | None = None, token: str | None = None, cache: Path | None = None
    ) -> None:
        self.endpoint = endpoint or constants.ENDPOINT
        self._token, self._cache = token, cache

    def pull(self, address: Address) -> Path:
        """The folder of a bundle's files at that revision, named by its commit; cached ones are not fetched.

        Without a network the cache alone answers, a branch or tag by the commit that it was last. Nothing is
        checked but that all files are there: `registry.bundle.open_bundle` compares hashes.

        Raises:
            CheckpointError: when there is no such repository or revision.
            ServiceError: when the Hub cannot be reached or refuses, and the cache does not have it.
            StorageError: when the cache cannot be written (full, read-only).
        """
        with _said_plainly(str(address), self.endpoint):
            folder = snapshot_download(
                address.repository,
                revision=address.revision,
                endpoint=self.endpoint,
                token=self._token,
                cache_dir=self._cache,
                allow_patterns=list(PULLED),
            )
        commit = Path(folder).name
        if COMMIT.fullmatch(address.revision):
            log.info("%s is in %s", address, folder)
        else:
            pinned = address._replace(revision=commit)
            log.warning("%s can move: it is %s now; name that to have the same again", address, pinned)
        return Path(folder)

    def push(
        self, repository: str, files: Mapping[str, Path | bytes], message: str, *, private: bool | None = None
    ) -> Address:
        """Make the files all that a repository holds, in one commit, which is given back.

        A repository that is not there is made, private unless `private` is False; None leaves one that is
        there as it is. The Hub validates README.md before anything is uploaded.

        Raises:
            ConfigError: when the repository's name or README.md's metadata is refused.
            ServiceError: when there is no token, it is refused or may not write, or the Hub is out of reach.
        """
        token = self._token or get_token()
        if token is None:
            raise ServiceError(
                f"there is no token for {self.endpoint}; make one that may write, and log in with "
                "`hf auth login` or set HF_TOKEN"
            )
        api = HfApi(endpoint=self.endpoint, token=token)
        with _said_plainly(f"{PREFIX}{repository}", self.endpoint):
            if not api.repo_exists(repository):
                api.create_repo(repository, private=private is not False)
            there = api.model_info(repository)
            if private is not None and there.private != private:
                api.update_repo_settings(repository, private=private)
            left = {file.rfilename for file in there.siblings or ()} - {*files, OF_THE_HUB}
            done = api.create_commit(
                repository,
                [
                    *(CommitOperationDelete(name) for name in sorted(left)),
                    *(CommitOperationAdd(name, content) for name, content in files.items()),
                ],
                commit_message=message,
                parent_commit=there.sha,  # whoever else pushes meanwhile is not overwritten
            )
        return Address(repository, str(done.oid))


@contextmanager
def _said_plainly(what: str, endpoint: str) -> Iterator[None]:
    """The client's errors as ours; `what` is the address."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, what, endpoint) from error
    except (httpx2.TransportError, OfflineModeIsEnabled, FileMetadataError) as error:
        raise ServiceError(
            f"{what}: {endpoint} cannot be reached ({_first_line(error)}); check the network and HF_ENDPOINT"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ServiceError(
            f"{what}: {endpoint} cannot be reached, and the cache does not have all of it "
            f"({_first_line(error)}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    except ValueError as error:  # of the client: a name, or metadata in README.md
        raise ConfigError(f"{what}: the Hub does not take it ({error}); mend that and try again") from error
    except RuntimeError as error:  # of the client, around what stopped an upload
        if not isinstance(error.__cause__, httpx2.HTTPError):
            raise
        raise ServiceError(
            f"{what}: {error} ({_first_line(error.__cause__)}); no commit was made: publish again"
        ) from error
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise StorageError(
            f"{what} cannot be kept ({error}); free space, or set HF_HOME to another place"
        ) from error


def _refused(error: HfHubHTTPError, what: str, endpoint: str) -> PalukuError:
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(
            f"{what}: the repository has no such revision; name a commit, a tag or a branch"
        )
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointError(
            f"{what}: {endpoint} has no such repository, or shows it only to others; check the name, and "
            "log in with `hf auth login` or set HF_TOKEN where it is private"
        )
    status = error.response.status_code
    wrong = {
        401: "the token is refused; make a new one, and log in with `hf auth login` or set HF_TOKEN",
        403: "the token may not write there; give it write access, or publish under a name of your own",
        412: "somebody else has changed the repository meanwhile; look at it and publish again",
    }.get(status, f"it answers {status} ({_first_line(error)}); try again later")
    return ServiceError(f"{what} at {endpoint}: {wrong}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
