"""Integrators with on-step velocities that book their own heat; shipped as ``qmml_md.integrators``."""

if __name__ != "qmml_md.integrators":
    raise ImportError("this folder is shipped as qmml_md.integrators: `pip install .` and import it under that name")
