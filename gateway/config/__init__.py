"""Typed, frozen settings, and the loader that names the line of every mistake."""
