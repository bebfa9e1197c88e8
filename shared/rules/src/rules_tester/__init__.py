"""Test security rules: cases say who may do what, and mutants show whether the cases would notice wrong rules."""
