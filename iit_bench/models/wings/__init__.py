"""Wings, the reference system: a decoder whose layers carry a visual and a textual learner weighed by a router (WINGS.md)."""
