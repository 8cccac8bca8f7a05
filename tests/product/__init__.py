"""Tests of the room product."""
