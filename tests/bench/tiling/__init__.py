"""Exact tiles against the tilers that people use: time, memory and error, same weights, same window.

    python -m tests.bench.tiling --json tests/bench/results/tiling.json --plot tests/bench/results/tiling.png
    python -m tests.bench.tiling --long --json FILE          what takes longer, beside the above
    python -m tests.bench.tiling --huge --json FILE          ours alone up to 64 Mpx: what grows with the scene
    python -m tests.bench.tiling --models conv --sizes 1 4   these models and sizes only (beside a set: of it)
    python -m tests.bench.tiling --quick                     shows that it runs

Every run is a process of its own on one core with one thread; rounds go in turn over all contestants of a case; times
are medians, and only their ratios within one run mean anything.

Ours is the product's engine itself: its plan, its windows of two georeferenced grids, its loop, its sinks. Rivals want
both images on one grid in memory: they are given the HSI upsampled once and stacked with the MSI as channels, which is
not counted in their times. Their window is ours in size (core and halo), so that a call of the network is alike. Rivals
run as they come (MONAI: constant, overlap 0.25; terratorch: an overlap of a seventh, blended; dask: nothing beyond the
scene's border) and at their best sensible setting (MONAI: Gaussian, overlap 0.5; terratorch: an overlap of our halo,
cropped instead of blended; dask: border mirrored, result stored in place; chunks of a core). Those that are not
installed are left out; for terratorch `pip install --no-deps terratorch` is enough.

References: ours is compared with the whole scene in one window, with the same frozen statistics (`frozen`); rivals with
their own ideal, their network over the whole scene at once with the statistics of the whole (`plain`). Scenes above
1 Mpx have no reference: ours is compared with itself at another size of core.
"""
