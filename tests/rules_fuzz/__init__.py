"""Ask us and the Firestore emulator about the same rules, and count where we differ: what compiles, what is allowed."""
