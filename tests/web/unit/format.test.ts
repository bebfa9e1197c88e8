// What the web client's functions for figures and times give, in New York and in English (tests/web/unit_tests.py).
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, money, when } from "../src/lib/format";

test("small costs keep the digits that they need, and no more", () => {
  assert.deepEqual([0, 1, 30, 1_300, 99_000, 100_000, 12_345_678].map(money), ["$0.00", "$0.000001", "$0.00003", "$0.0013", "$0.099", "$0.10", "$12.35"]);
});

test("sizes are in the unit that suits them", () => {
  assert.deepEqual([15, 999, 1_000, 1_310, 5e9, 5e12].map(bytes), ["15 bytes", "999 bytes", "1 kB", "1.3 kB", "5 GB", "5,000 GB"]);
});

test("a time to come is told by the reader's own day, also where clocks change", () => {
  const at = (time: string, now: string) => when(new Date(time), new Date(now)).replaceAll("\u202f", " ");
  assert.equal(at("2026-12-01T00:00:00Z", "2026-11-30T12:00:00Z"), "today at 7:00 PM");
  assert.equal(at("2026-12-01T05:00:00Z", "2026-11-30T12:00:00Z"), "tomorrow at 12:00 AM");
  assert.equal(at("2027-01-01T00:00:00Z", "2026-11-30T12:00:00Z"), "on Thursday, December 31 at 7:00 PM");
  assert.equal(at("2026-03-09T04:00:00Z", "2026-03-08T05:30:00Z"), "tomorrow at 12:00 AM"); // a day of 23 hours
  assert.equal(at("2026-11-02T05:00:00Z", "2026-11-01T04:30:00Z"), "tomorrow at 12:00 AM"); // a day of 25 hours
});
