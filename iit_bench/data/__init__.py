"""Data that several rooms read: the facts table, easy-VQA, local snapshots of Hub repositories, what `iit-bench fetch` recorded."""
