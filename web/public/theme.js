// Sets the theme before the first paint. A file, because the Content Security
// Policy forbids inline scripts. src/lib/theme.ts takes over from here.
(function () {
  var choice = null;
  try {
    choice = localStorage.getItem("muster.theme");
  } catch {
    // Storage may be forbidden; follow the system then.
  }
  var dark = choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
