"""The tests of planning first."""
