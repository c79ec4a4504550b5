"""Publish a bundle on the Hugging Face Hub: `CONFIG.yaml repository=OWNER/NAME [key=value ...]`.

`--dry-run` lists what would go, with sizes; it needs no token and no network.
"""

import json
import sys

from paluku.config import from_command_line
from paluku.errors import exits_cleanly

DRY_RUN = "--dry-run"


@exits_cleanly
def main() -> None:
    """Parse, gather, push, and say which commit it is."""
    from rich.console import Console
    from rich.table import Table

    from paluku.log import to_stderr
    from paluku.registry.bundle import open_bundle
    from paluku.registry.hub import Hub
    from paluku.registry.publication import PublishConfig, publication, size_of

    to_stderr()
    arguments = [argument for argument in sys.argv[1:] if argument != DRY_RUN]
    config = from_command_line(PublishConfig, __doc__ or "", arguments)
    files = publication(open_bundle(config.bundle), config)
    table = Table("file", "bytes", title=f"{config.repository}", title_justify="left")
    for name, content in files.items():
        table.add_row(name, f"{size_of(content):,}")
    Console(stderr=True, markup=False).print(table)
    said = {"repository": config.repository, "files": len(files), "bytes": sum(map(size_of, files.values()))}
    if DRY_RUN in sys.argv[1:]:
        print(json.dumps(said | {"dry_run": True}))
        return
    done = Hub().push(config.repository, files, config.message, private=config.private)
    print(json.dumps(said | {"address": str(done), "commit": done.revision}))


if __name__ == "__main__":
    main()
