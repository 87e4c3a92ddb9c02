import { expect, test } from "@playwright/test";

import { csvField } from "./copy";
import { visible } from "./text";
import { andWhere } from "./where";

test("makes characters visible that hide or reorder text", () => {
  expect(visible("plain – ünï¢ode 漢字")).toBe("plain – ünï¢ode 漢字");
  expect(visible("evil\u202egnp.exe")).toBe("evil⟨U+202E⟩gnp.exe");
  expect(visible("a\u0000b\u001b[31mc\nd")).toBe("a⟨␀⟩b⟨␛⟩[31mc⟨⏎⟩d");
  expect(visible("zero\u200bwidth\ufeff")).toBe("zero⟨U+200B⟩width⟨U+FEFF⟩");
});

test("disarms formulas in CSV", () => {
  expect(csvField("plain")).toBe("plain");
  expect(csvField("=1+1")).toBe("'=1+1");
  expect(csvField("-12")).toBe("-12");
  expect(csvField("-cmd|x")).toBe("'-cmd|x");
  expect(csvField('a "b", c')).toBe('"a ""b"", c"');
});

test("adds a comparison to a condition", () => {
  expect(andWhere("", "path", "=", '/tmp/a "b"\\c')).toBe('path = "/tmp/a ""b""\\c"');
  expect(andWhere("pid > 3 ", "uid", "!=", "0")).toBe("pid > 3 and uid != 0");
  expect(andWhere("pid > 3 or ssh", "uid", "=", "0")).toBe("(pid > 3 or ssh) and uid = 0");
});
