"""The doors: one module for each command of `gateway`."""
