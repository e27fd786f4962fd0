"""Where executions and their events are kept."""
