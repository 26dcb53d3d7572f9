"""What every program of coil needs and that knows nothing of networks: logs, tasks, clocks."""
