"""Result files that other tools wrote, read as if a suite of ours had run: figures with intervals, and the items they are made of."""
