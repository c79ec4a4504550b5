"""What load, faults and soak stand on: a local Ray cluster with the speech application, and its levers.

Everything is started here and ends with the block, also on Ctrl-C and SIGTERM. It shares nothing with
`make serve`: own ports, own folder, no registry.
"""

import json
import os
import shutil
import signal
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import yaml

from jobs.submit import ROOT
from paluku.audio import read_mono, to_pcm16
from paluku.client.load import Sound, named_sound, spoken_sound
from paluku.client.talker import LoadConfig
from paluku.cluster.faults import ServeReplicas
from paluku.cluster.local import LocalRay
from paluku.cluster.ports import LOOPBACK
from paluku.serving.deploy import deploy

Topology = Literal["fused", "graph"]
STAGES: dict[Topology, tuple[str, ...]] = {"fused": ("Speech",), "graph": ("Encode", "Converse", "Decode")}
DEMO_BUNDLE = ROOT / ".paluku" / "bundle"
QUESTION = ROOT / ".paluku" / "question.wav"
RATE_HZ, FRAME_SAMPLES = 16_000, 640
# Logical: replicas ask for fractions, and all of them must find a place, two of each and the surplus of a
# redeploy. The machine's own cores are shared by all.
LOGICAL_CPUS = 16


class Stand(ExitStack):
    """`with Stand("graph", seats=8) as stand: ...`: the application deployed and answering.

    Raises:
        ServiceError: when it does not come up in time.
        CheckpointError: when the bundle is missing or damaged.
    """

    def __init__(
        self,
        topology: Topology,
        seats: int,
        *,
        stand_in: bool = False,
        bundle: Path | None = None,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        self.topology: Topology = topology
        self.stand_in = stand_in
        self._seats, self._bundle, self._num_replicas = seats, bundle, replicas
        for name in ("no_proxy", "NO_PROXY"):  # probes of our own servers must not go through a proxy
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK, "localhost")))

    def __enter__(self) -> Self:
        super().__enter__()
        # Else SIGTERM would leave the servers behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="paluku-stand-"))
            self.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.bundles = self._find_bundles()
            self.ray = self.enter_context(LocalRay(num_cpus=LOGICAL_CPUS))
            self._config = self._first_config()
            self._first_deploy()
        except BaseException:
            self.close()
            raise
        return self

    # Where it is.

    @property
    def url(self) -> str:
        """Where HAProxy answers."""
        return f"http://{LOOPBACK}:{self.ray.serve_port}"

    @property
    def websocket_url(self) -> str:
        """Where a client speaks."""
        return f"ws://{LOOPBACK}:{self.ray.serve_port}/ws"

    def stats(self) -> dict[str, Any]:
        """What an ingress says of itself; where there are several, HAProxy asks them in turn."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=5) as answer:  # noqa: S310 (our own)
            return json.load(answer)

    @property
    def replicas(self) -> ServeReplicas:
        """Their processes."""
        return ServeReplicas(
            self.ray.dashboard_url, self.ray.env["RAY_AUTH_TOKEN"], self._application["name"]
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stage deployments' names."""
        return STAGES[self.topology]

    def load(self, **how: Any) -> LoadConfig:
        """How sessions speak here: to stand-ins they say their names."""
        named = {"named": True, "turn_taking": "none"} if self.stand_in else {}
        return LoadConfig(sample_rate_hz=RATE_HZ, **named, **how)

    def sound(self) -> Sound:
        """What they say: the demo's question, else noise in words' rhythm."""
        if self.stand_in:
            return named_sound(FRAME_SAMPLES)
        if QUESTION.is_file():
            return spoken_sound(to_pcm16(read_mono(QUESTION, RATE_HZ)), FRAME_SAMPLES)
        words = np.repeat(np.random.default_rng(0).random(40) > 0.4, RATE_HZ // 4)
        noise = np.random.default_rng(1).standard_normal(len(words)) * 3000 * words
        return spoken_sound(noise.astype(np.int16), FRAME_SAMPLES)

    # Its levers: each is the deployed configuration, changed.

    def scale(self, replicas: int) -> None:
        """So many replicas of every stage; which of them go is Serve's choice."""
        for name in self.stages:
            self._deployment(name)["num_replicas"] = replicas
        self._redeploy()

    def reload(self, generation: int) -> None:
        """Another model of the same codec, in every stage; 0 is the first."""
        bundle = self.bundles[generation % len(self.bundles)]
        for name in self.stages:
            self._deployment(name)["user_config"] = {"bundle": str(bundle)}
        self._redeploy()

    def redeploy_ingress(self, number: int) -> None:
        """Replace the ingress, as a new version of its code would."""
        self._deployment("Ingress")["ray_actor_options"]["num_cpus"] = 0.1 + 0.01 * (number % 2 + 1)
        self._redeploy()

    def _redeploy(self) -> None:
        self.replicas.apply(self._config)

    # How it begins.

    @property
    def _application(self) -> dict[str, Any]:
        (application,) = self._config["applications"]
        return application

    def _deployment(self, name: str) -> dict[str, Any]:
        return next(found for found in self._application["deployments"] if found["name"] == name)

    def _find_bundles(self) -> tuple[Path | str, ...]:
        if self.stand_in:
            return ("standin-0", "standin-1")
        from jobs.bench_bundle import another_model, random_bundle

        first = self._bundle or DEMO_BUNDLE
        if self._bundle is None and not first.is_dir():
            first = random_bundle(self.folder / "random")
            print(f"no {DEMO_BUNDLE}: a bundle of random weights, of the demo's sizes, is served", flush=True)
        return (first, another_model(first, self.folder / "another"))

    def _first_config(self) -> dict[str, Any]:
        shipped = ROOT / "serve_apps" / ("standin.yaml" if self.stand_in else "speech.local.yaml")
        config = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        config["http_options"]["port"] = self.ray.serve_port
        (application,) = config["applications"]
        application["runtime_env"] = {"working_dir": f"local://{ROOT}"}
        application["args"] |= {
            "topology": self.topology,
            "num_seats": self._seats,
            "bundle": str(self.bundles[0]),
            "tracking_uri": "",
            "cache": str(self.folder / "models"),
        }
        several = ("Ingress", *self.stages)
        wanted = {"Memory": 1, **dict.fromkeys(several, self._num_replicas)}
        application["deployments"] = [
            {"name": name, "num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}
            for name, replicas in wanted.items()
        ]
        return config

    def _first_deploy(self) -> None:
        path = self.folder / "app.yaml"
        path.write_text(yaml.safe_dump(self._config, sort_keys=False), encoding="utf-8")
        deploy(path, self._application["name"], self.ray.dashboard_url, self.url, self.ray.env)
