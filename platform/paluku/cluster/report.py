"""What a data job will do and has made, as tables for a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from paluku.cluster.corpus import BuildPlan
from paluku.corpus.building.standing import Standing
from paluku.corpus.config import CorpusConfig
from paluku.corpus.shards import SPLITS, Manifest
from paluku.corpus.storage import Place

STANDS = {
    Standing.NEW: "nothing there yet",
    Standing.UNFINISHED: "unfinished, will be continued",
    Standing.OUTDATED: "unfinished work of other settings or recordings, will be thrown away",
    Standing.DONE: "this very corpus is there, will be kept",
    Standing.OTHER: "another corpus is there",
}


def show_manifests(manifests: Mapping[str, Manifest]) -> None:
    """Rows, shards and hours a split; hours a language and source; rejects by reason."""
    console = _console()
    table = _table("corpus", ("kind", "split"), ("rows", "shards", "hours"))
    for kind, manifest in manifests.items():
        for split in SPLITS:
            shards = sum(shard.split == split for shard in manifest.shards)
            hours = _hours(manifest.hours.get(split, 0.0))
            table.add_row(kind, split, str(manifest.rows(split)), str(shards), hours)
    console.print(table)
    for kind, manifest in manifests.items():
        _show_breakdown(console, kind, manifest)


def _show_breakdown(console: Console, kind: str, manifest: Manifest) -> None:
    for name in ("language", "source"):
        if found := manifest.breakdown.get(name):
            table = _table(f"{kind} by {name}", (name, "licence"), ("hours",))
            for key, hours in found.items():
                table.add_row(key, manifest.licences.get(key, "") if name == "source" else "", _hours(hours))
            console.print(table)
    for reason, count in sorted(manifest.rejects.items(), key=lambda found: -found[1]):
        console.print(f"{kind}: {count} rejected as {reason}; see rejects.parquet")


def show_plan(config: CorpusConfig, plan: BuildPlan) -> None:
    """Sources with their items, hours and licences, or what is fetched first; the place and what is there."""
    console = _console()
    table = _table("plan", ("source", "licence"), ("items", "hours known", "of unknown length"))
    for name, source in plan.listing.sources.items():
        hours = _hours(source.audio_s / 3600)
        table.add_row(name, ", ".join(source.licences), str(source.items), hours, str(source.unknown))
    for name, _ in plan.to_fetch:
        table.add_row(name, "to be fetched", "?", "?", "?")
    console.print(table)
    for name, what in plan.to_fetch:
        console.print(f"{name}: {what}", soft_wrap=True)
    if plan.standing is None:
        console.print(f"out: {Place.of(config.out)} (what is done there is known once all is fetched)")
        return
    is_replaced = plan.standing is Standing.OTHER and config.overwrite
    stands = "another corpus is there, will be replaced" if is_replaced else STANDS[plan.standing]
    if plan.standing is Standing.OTHER and not is_replaced:
        stands += ": choose another out, or set overwrite=true"
    console.print(f"out: {Place.of(config.out)} ({stands})")
    console.print(f"parts: {len(plan.listing.parts)}, of which done: {plan.parts_done}")


def _console() -> Console:
    """Names come from data: `[/te] clips` is no markup and `:smile:` no picture."""
    return Console(markup=False, emoji=False)


def _hours(hours: float) -> str:
    return f"{hours:.3f}" if hours < 1 else f"{hours:.2f}"


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table
