"""Layer 4: one narrow engine port, one pool, one behaviour for every database."""
