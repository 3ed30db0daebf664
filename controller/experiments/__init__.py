"""From a campaign file to a folder of runs: grid, runs, records, figures; resumable."""
