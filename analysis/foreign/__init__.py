"""Trajectories that another program made."""
