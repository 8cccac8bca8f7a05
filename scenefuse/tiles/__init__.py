"""The room tiles: how a scene is cut; pure geometry."""
