# ruff: noqa: INP001 - a file for operators to copy, not a module of ours
"""A Dask cluster on a batch system that grows and shrinks with the work. Runs until interrupted.

    pip install dask-jobqueue
    python workflows/deploy/jobqueue.py SLURM --maximum 32 --address-file scheduler.txt &
    scenefuse batch archive/catalog.json --out products --scheduler "$(cat scheduler.txt)"

Queue, account and wall time come from Dask's own configuration, jobqueue.<system> in ~/.config/dask/jobqueue.yaml.
Outputs and local inputs must be on a file system that all jobs see. `local` starts processes on this machine.
"""

import argparse
import contextlib
import signal
from pathlib import Path

import dask
import dask_jobqueue
from dask_jobqueue.local import LocalCluster as LocalJobs

WORKER_ENVIRONMENT = Path(__file__).resolve().with_name("worker.env")


def main() -> None:
    """Start the cluster, write its address, wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["SLURM", "PBS", "SGE", "LSF", "HTCondor", "OAR", "local"])
    parser.add_argument("--maximum", type=int, default=8, help="maximum number of workers")
    parser.add_argument("--memory", default="4GiB", help="memory per worker")
    parser.add_argument("--gpu", action="store_true", help="give each worker its own GPU")
    parser.add_argument("--address-file", type=Path, default=Path("scheduler.txt"))
    given = parser.parse_args()
    kind = LocalJobs if given.system == "local" else getattr(dask_jobqueue, f"{given.system}Cluster")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The engine counts worker deaths itself. It waits up to 30 minutes while there is no worker.
    with (
        contextlib.suppress(KeyboardInterrupt),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        kind(
            cores=1,  # one thread per worker: results do not depend on the number of workers
            processes=1,
            memory=given.memory,
            worker_extra_args=["--resources", "GPU=1"] if given.gpu else [],
            job_script_prologue=[] if kind is LocalJobs else _exports(WORKER_ENVIRONMENT),  # a local job has no script
        ) as cluster,
    ):
        # Tasks are submitted two per worker, so the scheduler sees no long queue: a short target duration lets it grow.
        cluster.adapt(minimum=1, maximum=given.maximum, target_duration="1s")
        given.address_file.write_text(cluster.scheduler_address)
        signal.pause()


def _exports(file: Path) -> list[str]:
    """Its variables as lines of a job script, so that jobs need not see the file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [f"export {line}" for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    main()
