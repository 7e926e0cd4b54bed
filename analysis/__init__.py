"""The auditor, the report and the exporters; shipped as ``qmml_md.analysis``."""

if __name__ != "qmml_md.analysis":
    raise ImportError("this folder is shipped as qmml_md.analysis: `pip install .` and import it under that name")
