"""The main job on real scenes: Berlin, EnMAP over Potsdam, EO-1 over Paris."""
