"""What is simulated: structure files, molecules, and the OpenMM System."""
