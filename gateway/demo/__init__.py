"""The embedded default: a shop, an identity provider and a tour, all in one process."""
