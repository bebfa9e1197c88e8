"""Testing security rules: cases that say who may do what, and mutants that show whether the cases would notice."""
