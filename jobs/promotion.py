"""Candidate and champion judged by the same dialogues in one run, and the alias that goes to the better."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.promotion_files import log, write
from jobs.rival_ticks import ticks_ms
from paluku.cluster.progress import Progress
from paluku.evals import gates, s2s_run
from paluku.evals.promotion import PromoteConfig
from paluku.evals.rivals import Rival, rival
from paluku.registry import store
from paluku.registry.tracking import Data, MlflowReporter, tag_run, tracked_run

NOT_JUDGED = gates.Measured({}, dict.fromkeys(gates.KEYS, "no dialogues were given; set dialogues=FOLDER"))


def compare(config: PromoteConfig, version: int, parts: Mapping[str, str]) -> dict[str, Any]:
    """Judge both, and move `champion` where that is earned or forced: what came of it."""
    uri, name = config.tracking_uri, config.name
    present = store.version_at(name, store.CHAMPION, uri)
    folders = {store.CANDIDATE: config.out}
    if present is not None and config.dialogues:  # else not judged: one that is lost can still be replaced
        folders[store.CHAMPION] = store.fetch(f"models:/{name}/{present}", uri, config.cache)
    tags = {f"{part}_hash": digest for part, digest in parts.items()} | {"reason": config.reason}
    tags |= {"candidate_version": str(version), "champion_version": str(present or "")}
    data = Data.of_manifest("dialogues", config.dialogues) if config.dialogues else None
    title = f"{name} {version} against {present or 'nothing'}"
    with tracked_run(uri, "s2s", config, data, name=title, tags=tags) as run:
        refusals = gates.failed(judge(config, folders, run))
        if (now := store.version_at(name, store.CHAMPION, uri)) != present:
            refusals.append(
                f"while it was judged against version {present or '-'}, {now or '-'} became the champion; "
                "judge it against that"
            )
        is_promoted = config.force or not refusals
        what = "refused" if not is_promoted else "forced" if refusals else "passed"
        tag_run(uri, run.run_id, {"promotion": what, "failed_gates": "; ".join(refusals)})
        noted = {"promotion": what, "comparison": run.run_id, "reason": config.reason}
        store.note(name, version, noted, uri)
        if is_promoted:
            store.point(name, store.CHAMPION, version, uri)
    for refusal in refusals:
        print(f"gate: {refusal}", file=sys.stderr)
    return {"promoted": is_promoted, "promotion": what, "failed": refusals, "run_id": run.run_id}


def judge(config: PromoteConfig, folders: Mapping[str, Path], run: MlflowReporter) -> list[gates.Verdict]:
    """The verdicts; numbers, reports and sound of both go to the run."""
    rivals = judged(folders, config) if config.dialogues else {}
    found = {who: rivals[who].measured if who in rivals else NOT_JUDGED for who in folders}
    asked = gates.with_settings(config.gates)
    verdicts = gates.judge(found[store.CANDIDATE], found.get(store.CHAMPION), asked)
    if rivals:
        out, command = config.judged_folder, shlex.join(["python", "-m", "jobs.promote", *sys.argv[1:]])
        log(run, out, write(out, rivals, verdicts, command), rivals)
    run.metrics(0, {f"gate/{each.key}": float(each.has_passed) for each in verdicts})
    return verdicts


def judged(folders: Mapping[str, Path], config: PromoteConfig) -> dict[str, Rival]:
    """Each bundle by the same dialogues and seed, and their engines' ticks by turns."""
    opened = {who: s2s_run.opened(str(folder), config.device) for who, folder in folders.items()}
    asked = {who: s2s_run.Evaluation(**config.evaluation(folder)) for who, folder in folders.items()}
    prepared = {who: s2s_run.prepare(each.parts, asked[who]) for who, each in opened.items()}
    spent = ticks_ms({who: each.parts for who, each in opened.items()}, config.seats, config.ticks)
    with Progress("steps", sum(each.steps for each in prepared.values())) as progress:
        return {
            who: rival(each, prepared[who], spent[who], lambda: progress.advance(""))
            for who, each in opened.items()
        }
