"""The router, and what it relies on in Ray Serve: when Ray changes that, it is told here, not at night."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve._private.request_router.common import PendingRequest
from ray.serve._private.request_router.request_router import RequestRouter
from ray.serve._private.router import AsyncioRouter
from ray.serve.handle import DeploymentHandle

from paluku.serving import router
from paluku.serving.ports import StageLostError
from paluku.serving.router import AddressingRouter, Picture, address, router_config, watch

DEPLOYMENT = DeploymentID(name="Encode", app_name="speech")


class Running:
    """What the router asks of Serve's `RunningReplica`."""

    max_ongoing_requests = 5

    def __init__(self, name: str) -> None:
        self.replica_id = ReplicaID(unique_id=name, deployment_id=DEPLOYMENT)

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


class Watching:
    def __init__(self) -> None:
        self.seen: list[Picture | str] = []

    def appeared(self, picture: Picture) -> None:
        self.seen.append(picture)

    def failed(self, replica_id: str) -> None:
        self.seen.append(replica_id)


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "_watchers", type(router._watchers)(list))
    monkeypatch.setattr(router, "_pictures", {})


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def routed(test: Callable[[RequestRouter, Watching], Awaitable[None]], watches: bool = True) -> None:
    """Run a test on a router as Serve makes one."""

    async def run() -> None:
        made = AddressingRouter(
            deployment_id=DEPLOYMENT,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
        )
        made.initialize_state()
        watching = Watching()
        if watches:
            watch("speech", "Encode", watching)
        await test(made, watching)

    asyncio.run(run())


def call(name: str) -> PendingRequest:
    metadata = RequestMetadata(
        request_id="r", internal_request_id="the same for all", call_method="step", session_id=name
    )
    return PendingRequest(args=[], kwargs={}, metadata=metadata)


async def choose(made: RequestRouter, name: str, *, is_retry: bool = False) -> str:
    chosen = await made._choose_replica_for_request(call(address(name)), is_retry=is_retry)
    return chosen.replica_id.unique_id


def update(made: RequestRouter, names: str) -> None:
    made.update_replicas([Running(name) for name in names])  # type: ignore[arg-type]


def test_a_call_goes_to_the_replica_it_names_also_while_others_of_its_context_wait() -> None:
    async def test(made: RequestRouter, _: Watching) -> None:
        update(made, "abc")
        chosen = await asyncio.gather(*[choose(made, name) for name in "cabbac" * 20])
        assert "".join(chosen) == "cabbac" * 20

    routed(test)


def test_a_call_that_names_none_goes_to_any() -> None:
    async def test(made: RequestRouter, _: Watching) -> None:
        update(made, "a")
        chosen = await made._choose_replica_for_request(call(""))
        assert chosen.replica_id.unique_id == "a"

    routed(test)


def test_a_stopping_replica_is_addressed_until_a_call_to_it_fails() -> None:
    async def test(made: RequestRouter, watching: Watching) -> None:
        update(made, "ab")
        update(made, "b")
        assert await choose(made, "a") == "a"
        update(made, "")
        assert await choose(made, "a") == "a"  # also when none is left that runs
        made.on_replica_actor_unavailable(ReplicaID("a", DEPLOYMENT))
        with pytest.raises(StageLostError, match="Encode replica a is gone"):
            await choose(made, "a")
        await settle()
        assert watching.seen == [
            Picture(("a", "b"), ()),
            Picture(("b",), ("a",)),
            Picture((), ("a", "b")),
            "a",
            Picture((), ("b",)),
        ]

    routed(test)


def test_a_dead_one_is_gone_and_one_that_is_unavailable_may_come_back() -> None:
    async def test(made: RequestRouter, watching: Watching) -> None:
        update(made, "ab")
        made.on_replica_actor_died(ReplicaID("a", DEPLOYMENT))
        made.on_replica_actor_unavailable(ReplicaID("b", DEPLOYMENT))
        with pytest.raises(StageLostError):
            await choose(made, "a")
        assert await choose(made, "b") == "b"
        await settle()
        assert watching.seen[1:] == ["a", Picture(("b",), ()), "b", Picture(("b",), ())]

    routed(test)


def test_one_that_was_reconfigured_runs_again() -> None:
    async def test(made: RequestRouter, watching: Watching) -> None:
        for names in ("a", "", "a"):
            update(made, names)
        await settle()
        assert watching.seen[-1] == Picture(("a",), ())

    routed(test)


def test_a_call_is_tried_once() -> None:
    async def test(made: RequestRouter, _: Watching) -> None:
        update(made, "a")
        with pytest.raises(StageLostError, match="did not take a call"):
            await choose(made, "a", is_retry=True)

    routed(test)


def test_who_comes_late_is_told_at_once_and_who_has_left_no_more() -> None:
    async def test(made: RequestRouter, _: Watching) -> None:
        update(made, "a")
        late = Watching()
        unwatch = watch("speech", "Encode", late)
        other = Watching()
        watch("speech", "Decode", other)
        assert late.seen == [Picture(("a",), ())]
        unwatch()
        update(made, "ab")
        await settle()
        assert late.seen == [Picture(("a",), ())]
        assert other.seen == []

    routed(test, watches=False)


def test_a_watcher_is_told_in_its_own_loop_whatever_thread_the_router_runs_in() -> None:
    told_in: list[int] = []

    class Noting(Watching):
        def appeared(self, picture: Picture) -> None:
            told_in.append(threading.get_ident())

    async def run() -> None:
        watch("speech", "Encode", Noting())
        await asyncio.to_thread(router.publish, "speech", "Encode", Picture((), ()))
        await settle()

    asyncio.run(run())
    assert told_in == [threading.get_ident()]


# What is not public, by name and signature.


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_what_is_overridden_has_the_signature_it_had() -> None:
    for name in (
        "initialize_state",
        "update_replicas",
        "on_replica_actor_died",
        "on_replica_actor_unavailable",
        "_choose_replica_for_request",
        "choose_replicas",
    ):
        assert parameters(getattr(RequestRouter, name)) == parameters(getattr(AddressingRouter, name)), name


def test_serve_chooses_by_what_is_overridden_and_passes_other_errors_on() -> None:
    once = inspect.getsource(AsyncioRouter._route_and_send_request_once)
    assert "_choose_replica_for_request(" in once
    assert "is_retry=is_retry" in once
    assert "except Exception" not in once
    assert "on_replica_actor_unavailable(" in once
    finished = inspect.getsource(AsyncioRouter._process_finished_request)
    assert "on_replica_actor_unavailable(" in finished


def test_a_handle_takes_an_address_and_sends_by_value() -> None:
    assert {"session_id", "_by_reference", "method_name"} <= set(parameters(DeploymentHandle.options))
    assert parameters(ReplicaID) == ["unique_id", "deployment_id"]


def test_the_pickled_class_is_a_copy_that_tells_the_watchers_of_the_module() -> None:
    code = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
kind = pickle.loads(sys.stdin.buffer.read())
from paluku.serving import router
assert kind is not router.AddressingRouter
shared = kind._publish.__globals__
assert not {"_watchers", "_pictures", "publish"} & shared.keys(), shared.keys()
print("copied")
"""
    pickled = router_config().get_serialized_request_router_cls()
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=False)
    assert done.stdout.strip() == b"copied", done.stderr.decode()[-500:]


def test_a_router_config_names_the_class_by_its_path() -> None:
    assert router_config().request_router_class == "paluku.serving.router:AddressingRouter"
