"""Fusing one pair: from two scenes to a published-ready product."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from scenefuse import __version__
from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lanes import Lane
from scenefuse.engine.lease import Lease
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import RecordingObserver, TeeObserver
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.protocols import Observer
from scenefuse.engine.run import FusionJob, RunReport, fuse_scene
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError, ResourceError
from scenefuse.models.observation import observation_stages
from scenefuse.models.state import SceneState
from scenefuse.pipeline.opening import OpenedPair, open_aligned

Status = Literal["done", "resumed", "found"]
