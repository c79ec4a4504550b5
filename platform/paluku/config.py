"""Configuration: frozen pydantic models, sparse YAML, `key.sub=value` on the command line wins.

A config model lives beside the component it describes and derives from `Config`.
"""

import argparse
import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from paluku.errors import ConfigError


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} must be absolute: a job's working directory is temporary")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """The resolved configuration as canonical JSON: what is saved and hashed."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1)

    def digest(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read back a file that holds what `to_json` wrote.

        Raises:
            ConfigError: when it cannot be read, is no JSON, or does not fit.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}); it may be damaged: fetch it again"
            ) from error

    @classmethod
    def from_json(cls, text: str, origin: str) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            ConfigError: when the text is no JSON or does not fit; `origin` is named.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{origin} is not JSON ({error}); it may be half-written") from error
        return resolve(cls, values, origin)


Model = TypeVar("Model", bound=Config)


def resolve(model: type[Model], values: object, origin: str) -> Model:
    """Validate plain values; every complaint is gathered in one line that names `origin`.

    Raises:
        ConfigError: when a key is unknown or missing, or a value does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaints = "; ".join(_complaint(model, dict(e)) for e in error.errors())
        raise ConfigError(f"{origin}: {complaints}") from error


def _complaint(model: type[BaseModel], error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    if error["type"] != "extra_forbidden":
        reason = str(error["msg"]).removeprefix("Value error, ")
        return f"{key}: {reason} (got {error['input']!r})"
    known = ", ".join(sorted(model.model_fields))
    return f"unknown key {key!r}; remove it or check its spelling (top-level keys are: {known})"


def load(model: type[Model], path: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply `key.sub=value` overrides, and validate.

    Raises:
        ConfigError: when the file is missing or broken, or the result does not fit the model.
    """
    return resolve(model, apply(_read_yaml(Path(path)), overrides), str(path))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); give the path of a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, not a {type(values).__name__}")
    return values


def apply(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `key.sub=value` set; values are read as YAML scalars.

    Raises:
        ConfigError: when an override has no `=`, or descends into something that has no keys.
    """
    result = copy.deepcopy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} must have the form key.sub=value")
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"override {override!r}: {parent!r} has no keys below it")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r} is not valid YAML: {error}") from error
    return result


def command_line(
    description: str, argv: Sequence[str] | None = None, extra: Sequence[tuple[str, str]] = ()
) -> argparse.Namespace:
    """The standard command line of a job: `CONFIG.yaml [key.sub=value ...]`, as `.config`, `.overrides`.

    `extra` are options with a value each, and what they mean.
    """
    parser = argparse.ArgumentParser(description=description)
    for option, meaning in extra:
        parser.add_argument(option, help=meaning)
    parser.add_argument("config", help="YAML file; see jobs/configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings that win over the file"
    )
    return parser.parse_intermixed_args(argv)


def from_command_line(model: type[Model], description: str, argv: Sequence[str] | None = None) -> Model:
    """The configuration that the standard command line names."""
    arguments = command_line(description, argv)
    return load(model, arguments.config, arguments.overrides)


def split_section(overrides: Sequence[str], section: str) -> tuple[dict[str, Any], list[str]]:
    """The values set below `section.`, and the overrides that are not.

    Raises:
        ConfigError: as `apply`.
    """
    inside = [override for override in overrides if override.startswith(f"{section}.")]
    outside = [override for override in overrides if not override.startswith(f"{section}.")]
    return apply({}, inside).get(section, {}), outside
