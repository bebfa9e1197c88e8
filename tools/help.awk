# Prints the Makefile's targets by topic ("##@ Topic"), broken at 80 columns. A target's text stands after "## ".
/^##@ / { printf "%s%s\n", (any++ ? "\n" : ""), substr($0, 5); next }
/^[a-z-]+:.*## / {
  split($0, part, /:.*## /)
  line = sprintf("  %-20s", "make " part[1])
  count = split(part[2], word, " ")
  for (i = 1; i <= count; i++) {
    if (length(line) + 1 + length(word[i]) > 80) { print line; line = sprintf("%22s", "") }
    line = line " " word[i]
  }
  print line
}
