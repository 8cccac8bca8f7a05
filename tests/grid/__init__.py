"""Tests of the room grid."""
