"""How what changed in an EHR reaches Nadi when nobody pushes it, and how lost pushes are found."""
