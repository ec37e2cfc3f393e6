"""`iit-bench fetch`: what tasks need, where it is published, and its download into a data root, once."""
