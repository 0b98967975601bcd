"""Outgoing plumbing that several rooms need."""
