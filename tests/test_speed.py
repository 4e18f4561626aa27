"""The speed benchmark at tiny sizes: equal networks, operations counted by hand, complete lines. No timing is judged."""

import importlib.util
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import roofline, speed
from benchmarks.timing import Stopwatch, Timing, interleaved
from benchmarks.workloads import WORKLOADS, Workload, network, plain_scan, problem

TINY = Workload(latent=3, actions=2, hidden=5, samples=16, horizon=4, iterations=2)
FIELDS = {"ms_p50", "ms_p99", "model_steps_per_second", "roofline_fraction", "speedup_over_fastest_peer"}


def test_operations_are_those_counted_by_hand():
    assert TINY.step_flops == 2 * (5 * 5 + 5 * 5 + 5 * 3)
    assert TINY.model_steps == 16 * 4 * 2
    assert speed.flops(TINY, "cem") == speed.flops(TINY, "pytorch-mppi") == 130 * 128
    assert speed.flops(TINY, "gradient") == 130 * 4 * speed.STEPS * 2
    assert speed.flops(TINY, "stable-worldmodel-gradient-16") == 130 * 4 * speed.STEPS * 2 * 16
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS) == 4


def test_the_roofline_is_the_best_rate():
    slow, fast = roofline.Product("xla", 10, 20, 30), roofline.Product("numpy", 100, 100, 100)
    found = roofline.roofline([slow, fast], {slow.name: Timing(1.0, 1.0, 1), fast.name: Timing(2.0, 2.0, 1)})
    assert found.gflops == pytest.approx(1.0)
    assert found.best == fast.name
    assert found.by_product[slow.name] == pytest.approx(12_000 / 1e-3 / 1e9)


def test_a_line_says_how_it_compares():
    timings = {
        "cem": Timing(2.0, 3.0, 9),
        "gradient": Timing(0.5, 1.0, 9),
        "icem": Timing(4.0, 5.0, 9),
        "pytorch-mppi": Timing(10.0, 11.0, 9),
        "stable-worldmodel-mppi": Timing(6.0, 7.0, 9),
        "stable-worldmodel-gradient": Timing(1.5, 2.0, 9),
        "stable-worldmodel-gradient-16": Timing(0.1, 0.2, 9),
    }
    fields = speed.fields(TINY, "cem", timings, peak=1.0)
    assert set(fields) > FIELDS
    assert fields["model_steps_per_second"] == pytest.approx(128 / 2e-3)
    assert fields["roofline_fraction"] == pytest.approx(130 * 128 / 2e-3 / 1e9)
    assert fields["speedup_over_fastest_peer"] == pytest.approx(3.0)
    assert fields["share_of_icem"] == pytest.approx(0.5)
    assert speed.fields(TINY, "gradient", timings, 1.0)["speedup_over_fastest_peer"] == pytest.approx(3.0)
    assert speed.fields(TINY, "gradient", {"gradient": timings["gradient"]}, 1.0)["speedup_over_fastest_peer"] is None


def test_calls_take_turns_and_are_counted():
    seen = []
    timings = interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, seconds=0, burst=2, least=2)
    assert "".join(seen) == "ab" + "aaabbb" + "bbbaaa"
    assert {timing.calls for timing in timings.values()} == {4}


def test_a_busy_machine_is_noticed():
    watch = Stopwatch()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        deadline = time.monotonic() + 20
        while watch.busy_elsewhere == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        other.kill()
    assert watch.minutes > 0
    assert watch.busy_elsewhere is None or watch.busy_elsewhere > 0
    assert [speed.doubtful({"busy_elsewhere": share}) for share in (None, 0.01, 0.5)] == [False, False, True]


@pytest.mark.parametrize("proposals", [0, 4])
@pytest.mark.slow
def test_every_planner_has_a_line(proposals):
    workload = Workload(latent=3, actions=2, hidden=5, samples=16, horizon=4, iterations=2, proposals=proposals)
    lines = speed.compare(workload, seconds=0, with_peers=False)
    assert [line["method"] for line in lines] == [*speed.our_planners(workload), "plain-scan", "matmul-roofline"]
    for line in lines[:-1]:
        assert set(line) >= FIELDS | {"benchmark", "task", "method", "settings", "seed", "frames", "minutes"}
        assert line["ms_p50"] > 0 and line["roofline_fraction"] > 0
    json.dumps(lines, allow_nan=False)


@pytest.mark.slow
def test_batches_and_dispatch():
    batched = speed.batches(TINY, seconds=0)
    assert [line["settings"]["batch"] for line in batched] == [1, 8, 64]
    assert batched[0]["batch_over_looped"] == 1.0
    assert {line["method"] for line in speed.dispatch(seconds=0)} == {"jit-call", "cem", "gradient"}


def test_the_plain_scan_searches():
    made, latent = problem(TINY)
    plan = plain_scan(TINY, network(made), latent, jax.random.key(0))
    price = lambda actions: float(made.score(latent, actions, jnp.zeros((4, 0)))[0])  # noqa: E731
    assert plan.shape == (4, 2)
    assert price(plan) < price(jnp.zeros((4, 2)))


needs_peers = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in speed.NEEDED), reason=f"needs the peers: {speed.INSTALL}"
)


@needs_peers
def test_the_peers_see_the_same_problem():
    import torch

    from benchmarks import peers

    made, latent = problem(TINY)
    plans = np.random.default_rng(0).uniform(-1, 1, (7, 4, 2)).astype(np.float32)
    ours = made.rollout(latent, jnp.asarray(plans), made.futures(4)).cost[:, 0]
    start = torch.tensor(np.asarray(latent)).expand(1, 7, -1)
    theirs = peers.Model(peers.torch_network(network(made))).get_cost({"latent": start}, torch.tensor(plans)[None])
    np.testing.assert_allclose(np.asarray(ours), theirs[0].numpy(), rtol=1e-5)


@needs_peers
def test_every_peer_returns_a_better_plan_than_none():
    from benchmarks import peers

    made, latent = problem(TINY)
    price = lambda actions: float(made.score(latent, jnp.asarray(actions), jnp.zeros((4, 0)))[0])  # noqa: E731
    for name, decide in peers.peers(TINY, network(made), latent, steps=10, starts=16).items():
        plan = decide()
        assert plan.shape == (4, 2), name
        assert np.isfinite(plan).all(), name
        if name != "pytorch-mppi":  # at its default temperature it averages everything
            assert price(plan) < price(np.zeros((4, 2), np.float32)), name
