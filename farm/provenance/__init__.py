"""Where a wheel comes from: signed provenance (PEP 740, in-toto, SLSA), its bill of materials, the verdicts.

Three files lie beside each wheel that the farm built and published, under the wheel's name and a suffix:
:mod:`.attach` writes them, :mod:`.check` says whether they hold.
"""
