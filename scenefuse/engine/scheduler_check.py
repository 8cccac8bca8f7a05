"""Check that an existing Dask scheduler answers and that its workers can do our work."""

from __future__ import annotations

from typing import Any

from distributed import Client

from scenefuse.engine.cluster import ClusterSpec, open_client
from scenefuse.engine.finding import Finding
from scenefuse.engine.worker_environment import missing_here
from scenefuse.errors import ResourceError
from scenefuse.place.shipped import shipped_folder
from scenefuse.words import counted

_PACKAGES = ("scenefuse", "torch", "numpy", "zarr", "rasterio", "dask", "distributed")


def check_scheduler(address: str) -> Finding:
    """Check the scheduler's workers, threads, memory and GPUs; warns if runs would fail or not be repeatable."""
    try:
        with open_client(ClusterSpec(scheduler=address)) as client:
            workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
            differing = _differing_versions(client)
            missing = [] if differing else _missing_variables(client)
    except ResourceError as error:
        return Finding(name="scheduler", verdict="failed", text=str(error))
    facts = {
        "workers": len(workers),
        "threads": sum(worker["nthreads"] for worker in workers),
        "gpu_workers": sum("GPU" in worker.get("resources", {}) for worker in workers),
        "memory_bytes": sum(worker["memory_limit"] for worker in workers),
        "differing_versions": differing,
        "missing_variables": missing,
    }
    complaint = _complaint(facts, workers)
    if complaint:
        return Finding(name="scheduler", verdict="warning", text=f"{address} answers, but {complaint}", facts=facts)
    text = (
        f"{address} answers: {counted(facts['workers'], 'worker')}, "
        f"{facts['gpu_workers']} of them with the resource GPU, {facts['memory_bytes'] / 2**30:.0f} GiB"
    )
    return Finding(name="scheduler", verdict="ok", text=text, facts=facts)


def _complaint(facts: dict[str, Any], workers: list[dict[str, Any]]) -> str:
    """The most serious problem, with its cure; empty if there is none."""
    if not workers:
        return "has no worker: start some (dask worker ADDRESS --nthreads 1)"
    if facts["differing_versions"]:
        named = ", ".join(facts["differing_versions"])
        return f"its workers have other versions than this machine ({named}): install the same on all"
    if facts["threads"] > len(workers):
        return "workers have several threads, and results then differ in the last bit: start them with --nthreads 1"
    if facts["missing_variables"]:
        named, file = ", ".join(facts["missing_variables"]), shipped_folder("workflows") / "deploy" / "worker.env"
        return (
            f"workers were started without {named} of {file}, and may need more memory and time: "
            "start them in a shell after `set -a; . worker.env`"
        )
    return ""


def _differing_versions(client: Client) -> list[str]:
    """Packages whose version on some worker differs from the one here: `torch 2.9.0 there, 2.13.0 here`."""
    found: Any = client.get_versions(packages=list(_PACKAGES))  # a coroutine for asynchronous clients only
    here = found["client"]["packages"]
    there = [worker["packages"] for worker in found["workers"].values()]
    differing = {
        f"{name} {packages.get(name)} there, {here[name]} here"
        for packages in there
        for name in _PACKAGES
        if packages.get(name) != here[name]
    }
    return sorted(differing)


def _missing_variables(client: Client) -> list[str]:
    """Our environment variables that some worker was started without; requires workers with our version."""
    found: Any = client.run(missing_here)  # a coroutine for asynchronous clients only
    return sorted({name for names in found.values() for name in names})
