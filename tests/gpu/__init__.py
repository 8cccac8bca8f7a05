"""What only a CUDA device can show: `make gpu`. SCENEFUSE_GPU_REHEARSAL=cpu runs the same tests without one."""
