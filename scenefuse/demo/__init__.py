"""The room demo: a STAC archive of simulated scenes whose truth is known."""
