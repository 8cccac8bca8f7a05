"""scenefuse: archives of hyperspectral and multispectral scenes, fused pair by pair onto the fine grid."""

__version__ = "0.1.0"
