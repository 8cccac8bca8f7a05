"""The room tiles: how a scene is cut into tiles; pure geometry."""
