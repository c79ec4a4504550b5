"""Make a key: print it once, and append its hash to a keys file. Without a file, print the line to add."""

import argparse
import os
from pathlib import Path

from pydantic import ValidationError

from paluku.errors import ConfigError, exits_cleanly
from paluku.serving.keys import HashedKey, hashed, new_key, read_keys


@exits_cleanly
def main() -> None:
    """The key goes to standard output, alone on its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="who will use it: letters, digits, dots, dashes; it appears in logs")
    parser.add_argument("--file", type=Path, help="keys file to append to (security.keys_file)")
    arguments = parser.parse_args()
    key = new_key()
    entry = _entry(arguments.name, key)
    if arguments.file is None:
        print(f"add to the keys file: {entry.model_dump_json()}")
    else:
        append(arguments.file, entry)
    print(key)


def _entry(name: str, key: str) -> HashedKey:
    try:
        return hashed(name, key)
    except ValidationError:
        raise ConfigError(f"{name!r} is no name; use letters, digits, dots, dashes, 64 at most") from None


def append(path: Path, entry: HashedKey) -> None:
    """Add an entry; the file is its owner's alone, and is replaced whole.

    Raises:
        ConfigError: when the name is taken, or the file is broken.
    """
    known = read_keys(path) if path.exists() else ()
    if entry.name in {other.name for other in known}:
        raise ConfigError(f"{path} has a key named {entry.name!r}; choose another name, or remove its line")
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{line.model_dump_json()}\n" for line in (*known, entry))
    partial.replace(path)


if __name__ == "__main__":
    main()
