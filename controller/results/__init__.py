"""The on-disk format of campaigns and runs: written once, read once; summary, bound, statistics."""
