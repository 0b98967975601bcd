"""Layer 3: what a tool is, and how it runs."""
