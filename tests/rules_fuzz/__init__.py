"""Ask our parser and the rules compiler of the Firestore emulator about the same texts, and count where they differ."""
