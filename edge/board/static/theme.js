/* Light or dark: the system's choice until the viewer makes one, which is remembered. */

const KEY = "headrace.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

export const theme = () => localStorage.getItem(KEY) ?? (dark.matches ? "dark" : "light");

function apply() {
  document.documentElement.dataset.theme = theme();
  document.dispatchEvent(new Event("theme"));
}

dark.addEventListener("change", apply);
document.getElementById("theme")?.addEventListener("click", () => {
  localStorage.setItem(KEY, theme() === "dark" ? "light" : "dark");
  apply();
});
apply();
